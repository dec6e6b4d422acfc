"""The evaluate stage with questions of one's own, long texts, and programs in the sandbox."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bloomery.core.errors import BadInput
from bloomery.core.executors import Local
from bloomery.core.job import Forecast, Job
from bloomery.core.log import Log
from bloomery.core.machine import Machine
from bloomery.core.signals import Signals
from bloomery.core.store import Artifact
from bloomery.methods.rollout.single import Single
from bloomery.methods.task.cloze import Cloze
from bloomery.methods.task.humaneval import Humaneval
from bloomery.methods.task.multiple_choice import MultipleChoice
from bloomery.methods.task.needle import Needle
from bloomery.methods.task.variable_tracking import VariableTracking
from bloomery.seams import Rng
from bloomery.stages.evaluate import Evaluate

TASKS = (MultipleChoice(), Cloze(), Humaneval(limit=8), Needle(count=3, digits=2), VariableTracking(count=2, hops=1, chains=1))
ROWS = {
    "choices": [{"question": f"{i} and 1 is", "choices": [str(i), str(i + 1), "none"], "answer": 1} for i in range(6)],
    "gaps": [{"context": f"word{i} says", "ending": f"word{i + 1}"} for i in range(5)],
    "functions": [{"prompt": "def f(x):", "test": "def check(f):\n    assert f(1) == 1", "entry_point": "f"}],
}


def artifact(folder: Path, kind: str) -> Artifact:
    return Artifact(folder.name * 8, folder, {"kind": kind, "facts": {}})


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> dict[str, Artifact]:
    from bloomery.core.rng import torch_rng
    from bloomery.data.tokenizer import learn
    from bloomery.nn.config import Config
    from bloomery.nn.model import Transformer
    from bloomery.nn.saving import save

    root = tmp_path_factory.mktemp("world")
    for name in ("questions", "model"):
        (root / name).mkdir()
    for name, rows in ROWS.items():
        (root / "questions" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    net = Transformer(Config(vocab=300, width=32, layers=1, heads=2, kv_heads=2, ffn=32, context=320))
    for p in net.parameters():
        p.data.normal_(0, 0.3, generator=torch_rng(Rng((1, *p.shape))))
    save(net.eval(), root / "model")
    learn(["word1 says word2 and the miller sold three bricks near the river\n" * 20] * 4, 300).save(root / "model")
    return {name: artifact(root / name, "model" if name == "model" else "folder") for name in ("model", "questions")}


def job(root: Path) -> Job:
    for name in ("out", "work"):
        (root / name).mkdir(parents=True, exist_ok=True)
    return Job(root / "out", root / "work", Rng((0, "evaluate")), 0, Log(quiet=True), Local(1), None, {}, Signals())


def test_every_task_is_asked_graded_checked_and_kept(world, tmp_path):
    todo = job(tmp_path)
    stage = Evaluate(**world, tasks=TASKS, rivals=(), batch=0, rollout=Single(), thought="</think>")
    stage.run(todo)
    stage.check(todo.out, todo)
    todo.demand()
    rows = {row["metric"]: row for row in json.loads((todo.out / "scores.json").read_text())["scores"]}
    assert rows["choice_accuracy"]["n"] == 6 and rows["cloze_exact"]["n"] == 5 and rows["humaneval_solved"]["value"] == 0.0
    assert todo.facts["items"] == {"multiple_choice": 18, "cloze": 5, "humaneval": 1, "needle": 3, "variable_tracking": 2}
    assert set(todo.facts["reasoning_traces"].values()) == {0} and sum(todo.facts["truncated"].values()) == 0
    kept = [json.loads(line) for line in (todo.out / "items" / "needle.jsonl").read_text().splitlines()]
    assert all(row["prompt"].count("The code of") == 1 and row["prompt_tokens"] <= 320 for row in kept)
    assert todo.facts["tools"]["run"]["calls"] == 1


def test_a_model_against_another_is_paired_by_question(world, tmp_path):
    todo = job(tmp_path)
    Evaluate(**world, against=world["model"], tasks=TASKS[:2], rivals=(), batch=0, rollout=Single()).run(todo)
    rows = {row["metric"]: row for row in json.loads((todo.out / "scores.json").read_text())["scores"]}
    for metric in ("choice_accuracy_change", "cloze_exact_change"):
        assert (rows[metric]["value"], rows[metric]["low"], rows[metric]["high"]) == (0.0, 0.0, 0.0)


def test_without_questions_there_is_nothing_to_ask(world, tmp_path):
    with pytest.raises(BadInput, match="name `corpus`, `chats` or `questions`"):
        Evaluate(world["model"], tasks=TASKS[:1], rivals=(), batch=0, rollout=Single()).run(job(tmp_path))


def test_the_forecast_counts_questions_by_their_bytes_and_long_texts_by_the_context():
    machine = Machine("test", 2, 8 << 30, True, {"float32": 1e11})

    def seconds(task, size: float = 3e6) -> float:
        inputs = {"model": Forecast(facts={"parameters": 1e7}), "questions": Forecast(facts={"bytes": size})}
        return Evaluate(None, tasks=(task,), rivals=(), rollout=Single()).forecast(inputs, machine).seconds

    assert seconds(Humaneval(count=10)) < seconds(Humaneval(), 3e4) < seconds(Humaneval())
    assert seconds(Needle(count=30, tokens=100)) < seconds(Needle(count=30))
