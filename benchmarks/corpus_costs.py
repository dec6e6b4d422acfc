"""What every signal, edit and selection takes by itself: `benchmarks/corpus.py --costs`."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bloomery.core import catalog
from bloomery.data import words
from bloomery.data.tokenizer import learn
from bloomery.seams import Doc, Rng

SHARE = 0.25  # of the bytes that a selection takes
WIDTH = 256  # of vectors


class Silent:
    """Models that answer at once."""

    def score(self, pairs: list[tuple[str, str]], role: str) -> list[list[float]]:
        return [[-1.0 - len(role) % 3] * (1 + len(text) // 4) for _, text in pairs]


def tables(texts: list[str], rounds: int) -> Iterator[str]:
    """Tables in Markdown: the least of `rounds`, by the processor's time."""
    docs = [Doc(str(k), text, {"domain": "text"}) for k, text in enumerate(texts)]
    size = sum(len(text.encode("utf-8", "replace")) for text in texts) / 1e6
    with tempfile.TemporaryDirectory() as name:
        for seam, works in (("signal", signals(docs, Path(name))), ("edit", edits(docs)), ("selection", selections(texts))):
            rows = []
            for method, work in works:
                took = min(seconds(work) for _ in range(rounds + 1))  # the first one may compile, or learn
                rows.append((took, f"| `{method}` | {told(size / took)} | {told(1e6 * took / len(texts))} |"))
            rows.sort(reverse=True)
            about = f"{len(texts):,} documents of {1e3 * size / len(texts):.1f} kB"
            yield "\n".join([f"| {seam} | MB/s | µs a document ({about}) |", "|---|---|---|", *(row for _, row in rows)])


def told(number: float) -> str:
    """Three digits that count."""
    return f"{number:,.0f}" if number >= 1000 else f"{number:.3g}"


def seconds(work: Callable[[], Any]) -> float:
    words.forget()
    began = time.process_time()
    work()
    return time.process_time() - began


def signals(docs: list[Doc], folder: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Signals with what they must be given; what several share is paid by each, models take nothing."""
    some = folder / "some.jsonl"
    some.write_text(
        "".join(json.dumps({"text": doc.text, "label": "ab"[k % 2]}) + "\n" for k, doc in enumerate(docs[:200])), encoding="utf-8"
    )
    learn([doc.text for doc in docs[:200]], 2000).save(folder)
    sets = {"good": str(some), "bad": str(some)}
    more = {
        "chinesewebtext": sets,
        "chinesewebtext2": {**sets, "toxic": str(some), "benign": str(some), "domains": ("a", "b"), "labelled": str(some)},
        "tokens": {"tokenizer": str(folder)},
    }
    for name, entry in catalog.entries("signal").items():
        cls = entry.load()
        method = cls(**more.get(name, {knob: str(some) for knob in getattr(cls, "required", ())}))
        tools = Silent() if getattr(method, "needs", ()) else None
        yield name, lambda method=method, tools=tools: method.columns(docs, tools)


def edits(docs: list[Doc]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Edits of one document that ask no model."""
    for name, entry in catalog.entries("edit").items():
        cls = entry.load()
        if hasattr(cls, "edit") and not hasattr(cls, "draw"):
            method = cls()
            if not getattr(method, "needs", ()):
                yield name, lambda method=method: [method.edit(doc, None, Rng((k,))) for k, doc in enumerate(docs)]


def selections(texts: list[str]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Selections of a quarter of the bytes; vectors and texts are in memory."""
    places, draw = np.arange(len(texts)), np.random.default_rng(0)
    columns = {
        "text": texts,
        "bytes": np.array([len(text.encode("utf-8", "replace")) for text in texts]),
        "domain": np.where(places % 20 == 0, "target", "pool").astype(object),
        "number": draw.random(len(texts)),
        **{f"embed:encoder:{pooling}": draw.normal(size=(len(texts), WIDTH)).astype(np.float32) for pooling in ("weighted", "mean")},
    }
    budget = SHARE * columns["bytes"].sum()
    knobs = {
        "top": {"column": "number"},
        "preselect": {"column": "number"},
        "mixture": {"weights": {"target": 1, "pool": 1}},
        "metaclip": {
            "entries": [f"concept{k}" for k in range(90)]
            + ["import", "class", "the", "of", "test", "return", "error", "path", "size", "list"]
        },
    }
    for name in catalog.entries("select"):
        method = catalog.build_method("select", {name: knobs.get(name, {})})
        yield name, lambda method=method: method.weigh(columns, budget, Rng((0,)))
