"""What tests of evaluate share: a job in a folder, and a small random model beside questions in files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bloomery.core.executors import Local
from bloomery.core.job import Job
from bloomery.core.log import Log
from bloomery.core.rng import torch_rng
from bloomery.core.signals import Signals
from bloomery.core.store import Artifact
from bloomery.data.tokenizer import learn
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.saving import save
from bloomery.seams import Rng

LINES = "word1 says word2 and the miller sold three bricks near the river\n" * 20


def job(root: Path, signals: Signals | None = None) -> Job:
    """An evaluate step's work below a folder."""
    for name in ("out", "work"):
        (root / name).mkdir(parents=True, exist_ok=True)
    return Job(root / "out", root / "work", Rng((0, "evaluate")), 0, Log(quiet=True), Local(1), None, {}, signals or Signals())


def scores_of(todo: Job) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows of the score table by metric and subject."""
    return {(row["metric"], row["subject"]): row for row in json.loads((todo.out / "scores.json").read_text())["scores"]}


def asked_world(root: Path, files: Mapping[str, Sequence[Mapping[str, Any]]], context: int) -> dict[str, Artifact]:
    """The artifacts `model`, drawn at random, and `questions`: rows as lines, or as a list where a file ends in .json."""
    for name in ("questions", "model"):
        (root / name).mkdir()
    for name, rows in files.items():
        lines = json.dumps(rows) if name.endswith(".json") else "".join(json.dumps(row) + "\n" for row in rows)
        (root / "questions" / name).write_text(lines)
    net = Transformer(Config(vocab=300, width=32, layers=1, heads=2, kv_heads=2, ffn=32, context=context))
    for p in net.parameters():
        p.data.normal_(0, 0.3, generator=torch_rng(Rng((1, *p.shape))))
    save(net.eval(), root / "model")
    learn([LINES] * 4, 300).save(root / "model")
    kinds = {"model": "model", "questions": "folder"}
    return {name: Artifact(name * 8, root / name, {"kind": kind, "facts": {}}) for name, kind in kinds.items()}
