"""A lab of tiny trials over a few lines of text, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bloomery.core.store import Store
from bloomery.lab import worlds
from bloomery.lab.lab import Lab

TINY = {
    "width": 16, "layers": 1, "heads": 2, "ffn": 32, "context": 32, "tokens": 2000, "batch": 256, "evaluate_every": 0,
    "evaluate_tokens": 512, "precision": "float32",
}  # fmt: skip


@pytest.fixture
def tiny() -> dict:
    """Knobs of a trial that takes no time."""
    return TINY


@pytest.fixture
def tiny_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The world `python` is forty lines of counting."""
    text = tmp_path / "lines.jsonl"
    rows = ({"id": str(i), "text": " ".join(str(i * k % 97) for k in range(60)), "package": str(i % 20)} for i in range(120))
    text.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tiny = {"sources": [str(text)], "signals": ["length"], "near": 0.0, "guard": 0.0, "heldout": 0.2}
    monkeypatch.setitem(worlds.TABLE, "python", (tiny, {"vocab": 262, "sample": "1MB"}))


@pytest.fixture
def lab(store: Store, tiny_world: None) -> Callable[..., Lab]:
    """Make a lab over the store of this test; `workers=1` stays in this process, which has one thread."""

    def make(seeds=2, workers=1, **more) -> Lab:
        return Lab(store, seeds, workers, quiet=True, defaults=TINY, **more)

    return make
