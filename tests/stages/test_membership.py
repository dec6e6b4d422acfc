"""Members planted in a small model: every test of membership finds them at the rate that it states, and finds nothing in a fresh model."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from bloomery.core.executors import Local
from bloomery.core.job import Job
from bloomery.core.log import Log
from bloomery.core.signals import Signals
from bloomery.core.store import Artifact
from bloomery.methods.edit.copyright_traps import CopyrightTraps as Planted
from bloomery.methods.rollout.single import Single
from bloomery.methods.task.copyright_traps import CopyrightTraps
from bloomery.methods.task.dc_pdd import DcPdd
from bloomery.methods.task.min_k import MinK
from bloomery.seams import Doc, Rng
from bloomery.stages import evaluate

TRAPS = {"traps": 24, "words": 6, "vocabulary": 300}
TASKS = (MinK(length=48), DcPdd(length=48, reference=0.4, cap=0.2), CopyrightTraps(**TRAPS))  # documents with traps are shorter
METRICS = ("min_k", "dc_pdd", "copyright_traps")
STEPS, ROWS, MEMBERS, TRAPPED = 150, 16, 60, 96


def documents(count: int) -> list[Doc]:
    """Short texts of a made-up language, so that nothing but memory tells one half from the other."""
    from bloomery.data.worlds.noisy import World

    world = World(documents=count, noise=0.0, sentences=3, group=1)
    return [Doc(f"doc{i}", world.document(i).text, {"path": f"{i}.txt", "package": f"p{i}"}) for i in range(count)]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Artifact]:
    """A corpus, a model trained on its documents again and again, and the same model before that."""
    import pyarrow as pa
    import torch

    from bloomery.core.rng import torch_rng
    from bloomery.data.tables import write_table
    from bloomery.data.tokenizer import learn
    from bloomery.nn.config import Config
    from bloomery.nn.model import Transformer
    from bloomery.nn.saving import save

    root = tmp_path_factory.mktemp("members")
    docs, edit = documents(MEMBERS + 120), Planted(**TRAPS, share=1.0, repeats=1)
    trapped = [edit.edit(Doc(f"trap{i}", "So.\n", {"path": "", "package": f"t{i}"}), None, Rng((0,)))[0] for i in range(TRAPPED)]
    members = docs[:MEMBERS]
    tokenizer = learn([doc.text for doc in docs[MEMBERS:]], 400)  # it has seen neither members nor traps
    (root / "corpus").mkdir()
    for part, chosen in (("train", [*members, *trapped]), ("heldout", docs[MEMBERS:])):
        rows = [{"id": f"{part}{i}", "text": doc.text, **doc.meta, "bytes": len(doc.text)} for i, doc in enumerate(chosen)]
        write_table(pa.Table.from_pylist(rows), root / "corpus" / f"{part}.parquet")
    cfg = Config(vocab=400, width=64, layers=2, heads=4, kv_heads=4, ffn=128, context=64)
    net, gen = Transformer(cfg), np.random.default_rng(0)
    for p in net.parameters():
        p.data.normal_(0, 0.05, generator=torch_rng(Rng((1,))))
    found = {"corpus": Artifact("corpus", root / "corpus", {"kind": "corpus", "facts": {}})}
    texts = [np.array([1, *tokenizer.encode(doc.text), 2]) for doc in (*members, *members, *trapped)]
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3)
    for name in ("fresh", "trained"):
        for _ in range(STEPS if name == "trained" else 0):
            ids = torch.zeros(ROWS, 64, dtype=torch.int64)
            for row, text in zip(ids, (texts[k] for k in gen.integers(0, len(texts), ROWS)), strict=True):
                start = gen.integers(0, max(1, len(text) - 63))
                piece = torch.from_numpy(text[start : start + 64])
                row[: len(piece)] = piece
            loss = torch.nn.functional.cross_entropy(net.logits(net(ids[:, :-1])).flatten(0, 1), ids[:, 1:].flatten(), ignore_index=0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        (root / name).mkdir()
        save(net.eval(), root / name)
        tokenizer.save(root / name)
        found[name] = Artifact(name, root / name, {"kind": "model", "facts": {}})
        net.train()
    return found


def measured(models: dict[str, Artifact], name: str, root: Path) -> dict[str, dict]:
    stage = partial(evaluate.Evaluate, rollout=Single())(models[name], corpus=models["corpus"], tasks=TASKS, rivals=(), batch=0)
    for folder in ("out", "work"):
        (root / folder).mkdir()
    todo = Job(root / "out", root / "work", Rng((0, "evaluate")), 0, Log(quiet=True), Local(1), None, {}, Signals())
    stage.run(todo)
    rows = json.loads((root / "out" / "scores.json").read_text())["scores"]
    assert all(row["clean"] is None for row in rows if row["task"] in METRICS)
    return {row["metric"]: row for row in rows if row["subject"] == "model"}


def test_planted_members_are_told_apart_at_the_stated_rate(models, tmp_path):
    found = measured(models, "trained", tmp_path)
    for name in METRICS:
        area, caught, wrong = (found[f"{name}_{what}"] for what in ("auc", "true_positives", "false_positives"))
        assert area["low"] > 0.6, (name, area)
        assert caught["value"] > wrong["value"] + 0.1, (name, caught, wrong)
        assert wrong["low"] <= 0.05 < wrong["high"], f"{name}: the stated rate is 0.05"
        assert caught["low"] <= caught["value"] <= caught["high"]


def test_a_fresh_model_gives_nothing_away(models, tmp_path):
    found = measured(models, "fresh", tmp_path)
    for name in ("min_k", "dc_pdd"):
        assert found[f"{name}_auc"]["low"] < 0.55, name
    assert 0.25 < found["copyright_traps_auc"]["value"] < 0.75
