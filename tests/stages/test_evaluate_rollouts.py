"""Evaluate with strategies of sampling, tasks that run programs, and tasks about training text."""

from __future__ import annotations

import json

import pytest

from bloomery.core.errors import BadInput
from bloomery.core.executors import Local
from bloomery.core.job import Forecast, Job
from bloomery.core.log import Log
from bloomery.core.machine import Machine
from bloomery.core.signals import Signals
from bloomery.core.store import Artifact
from bloomery.infer.answers import Examinee
from bloomery.infer.exam import answers_of, best
from bloomery.infer.model import load
from bloomery.infer.sampler import Sampler
from bloomery.methods.filter.temperature import Temperature
from bloomery.methods.rollout.alphacode import Alphacode
from bloomery.methods.rollout.single import Single
from bloomery.methods.task.min_k import MinK
from bloomery.methods.task.programs import Programs, written
from bloomery.seams import Episode, Grade, Item, Rng
from bloomery.stages._evaluate_sources import trained_sample
from bloomery.stages.evaluate import Evaluate


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> dict[str, Artifact]:
    import pyarrow as pa

    from bloomery.core.rng import torch_rng
    from bloomery.data.tables import write_table
    from bloomery.data.tokenizer import learn
    from bloomery.nn.config import Config
    from bloomery.nn.model import Transformer
    from bloomery.nn.saving import save

    root = tmp_path_factory.mktemp("world")
    texts = {part: [f"{part} {i} says word{i * 7 % 13} and word{i * 3 % 11}\n" * 6 for i in range(30)] for part in ("train", "heldout")}
    for name in ("corpus", "model"):
        (root / name).mkdir()
    for part, some in texts.items():
        rows = [{"id": f"{part}{i}", "text": text, "path": f"{i}", "package": f"{part}{i // 3}"} for i, text in enumerate(some)]
        write_table(pa.Table.from_pylist(rows), root / "corpus" / f"{part}.parquet")
    tokenizer = learn([*texts["train"], *(one.prompt for one in Programs().items(None, Rng((0,))))], 320)
    net = Transformer(Config(vocab=320, width=32, layers=1, heads=2, kv_heads=2, ffn=32, context=256))
    for p in net.parameters():
        p.data.normal_(0, 0.3, generator=torch_rng(Rng((1,))))
    save(net.eval(), root / "model")
    tokenizer.save(root / "model")
    return {name: Artifact(name * 8, root / name, {"kind": name, "facts": {}}) for name in ("model", "corpus")}


def ran(stage: Evaluate, root) -> tuple[Job, list[dict]]:
    for name in ("out", "work"):
        (root / name).mkdir(parents=True, exist_ok=True)
    todo = Job(root / "out", root / "work", Rng((0, "evaluate")), 0, Log(quiet=True), Local(1), None, {}, Signals())
    stage.run(todo)
    stage.check(todo.out, todo)
    todo.demand()
    return todo, json.loads((todo.out / "scores.json").read_text())["scores"]


def test_members_are_told_from_others_by_their_own_training_text(world, tmp_path):
    stage = Evaluate(**world, tasks=(MinK(length=60, count=20),), rivals=(), batch=0, rollout=Single())
    todo, scores = ran(stage, tmp_path)
    found = {row["subject"]: row for row in scores if row["metric"] == "min_k_auc"}
    assert set(found) == {"model", "mean log-probability", "loss over zlib bytes"}
    assert found["model"]["n"] == 40 and found["model"]["low"] <= found["model"]["value"] <= found["model"]["high"]
    assert found["model"]["clean"] is None  # without the members nothing is left to compare
    assert todo.facts["min_k_auc"] == found["model"]["value"] and len(todo.checks) == 5


def test_the_sample_of_training_text_depends_on_ids_alone(world, monkeypatch):
    whole = trained_sample(world["corpus"], Rng((0,)))
    assert len(whole) == 30 and whole[0].text.startswith("train 0") and whole[0].meta["package"] == "train0"
    monkeypatch.setattr("bloomery.stages._evaluate_sources.TRAINED_SAMPLE", 7)
    some = trained_sample(world["corpus"], Rng((0,)))
    assert [doc.id for doc in some] == [doc.id for doc in trained_sample(world["corpus"], Rng((0,)))] and len(some) == 7
    assert [doc.id for doc in some] != [doc.id for doc in trained_sample(world["corpus"], Rng((1,)))]
    assert trained_sample(None, Rng((0,))) == []


def test_programs_are_sampled_run_and_the_best_counts(world, tmp_path, monkeypatch):
    """A model that writes the right program once in six: ten tries by behaviour find it, one try does not."""
    real = Examinee.answers

    def lucky(self, items, filters, rng, rows=32, logp=False):
        from dataclasses import replace

        answers, seen = real(self, items, filters, rng, rows, logp), {}
        for i, (item, one) in enumerate(zip(items, answers, strict=True)):
            k = seen[item.id] = seen.get(item.id, -1) + 1
            text = item.target if k % 6 == 5 else written((("sort", 2), ("count", 2))) if k % 2 else "\n    return x\n"
            answers[i] = replace(one, episode=replace(one.episode, text=text, ended="stop"))
        return answers

    monkeypatch.setattr(Examinee, "answers", lucky)
    about = {**world, "tasks": (Programs(count=3, limit=4),), "filters": (Temperature(),), "rivals": (), "batch": 0}
    todo, scores = ran(Evaluate(**about, rollout=Alphacode(samples=12, budget=2)), tmp_path / "a")
    one, alone = ran(Evaluate(**about, rollout=Single()), tmp_path / "b")
    solved = [next(row["value"] for row in rows if row["metric"] == "programs_solved") for rows in (scores, alone)]
    assert solved == [1.0, 0.0]
    kept = [json.loads(line) for line in (todo.out / "items/programs.jsonl").read_text().splitlines()]
    assert all(row["parts"]["answers"] <= 2 and row["prompt_tokens"] > 20 for row in kept if "answers" in row["parts"])
    assert todo.facts["tools"]["run"]["calls"] > one.facts["tools"]["run"]["calls"] > 0
    assert "Alphacode(samples=12" in next(row["note"] for row in scores if row["metric"] == "programs_solved")


def test_a_sampler_gives_log_probabilities_and_other_draws_for_each(world):
    examinee = Examinee(load(world["model"].folder))
    items = [Item("a", "train 1", "generate", limit=5), Item("b", "", "score", "train 2")]
    engine = Sampler(examinee, (Temperature(),), rows=3)
    first, scored = engine.sample(items, 6, Rng((0,)))
    assert [len(first), len(scored)] == [6, 1] and len({one.id for one in first}) == 6 and {one.item for one in first} == {"a"}
    assert len({one.text for one in first}) > 1 and all(len(one.logp) == len(one.tokens) > 0 for one in (*first, *scored))
    assert engine.sample(items, 6, Rng((0,))) == [first, scored] != engine.sample(items, 6, Rng((1,)))
    assert engine.read["a"][1] == 0 and engine.sample(items, 1, Rng((0,)))[0][0].id == "a"


def test_answers_are_leaves_and_every_item_needs_one():
    tree = [Episode("r", "a"), Episode("x", "a", parent="r"), Episode("y", "a", parent="r"), Episode("z", "b")]
    items = [Item("a", "", "generate"), Item("b", "", "generate")]
    assert {item: [one.id for one in some] for item, some in answers_of(tree, items).items()} == {"a": ["x", "y"], "b": ["z"]}
    with pytest.raises(BadInput, match="'b' was given no answer"):
        answers_of(tree[:3], items)

    class Length:
        def grade(self, item, episode, tools):
            return Grade(len(episode.text), {"x": 1.0})

    answers = [Episode("1", "a", "u"), Episode("2", "a", "uv"), Episode("3", "a", "wx")]
    assert best(Length(), items[0], answers, None) == (answers[1], Grade(2, {"x": 1.0, "answers": 3.0}))
    assert best(Length(), items[0], answers[:1], None) == (answers[0], Grade(1, {"x": 1.0}))


def test_a_role_that_nothing_is_bound_to_is_refused_before_any_work(world):
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Judged(Programs):
        needs = ("ask:judge",)

    machine, inputs = Machine("t", 2, 8 << 30, True, {"float32": 1e11}), {name: Forecast() for name in world}
    Evaluate(**world, tasks=(Judged(),), roles={"judge": world["model"]}).forecast(inputs, machine)
    with pytest.raises(BadInput, match="role 'judge', and none is bound"):
        Evaluate(**world, tasks=(Judged(),)).forecast(inputs, machine)
