"""The evaluate stage with questions of one's own, long texts, and programs in the sandbox."""

from __future__ import annotations

import json
import math

import pytest
from safetensors.torch import load_file, save_file
from small_evaluate import asked_world, job, scores_of

from bloomery.core.errors import BadInput, CheckFailed
from bloomery.core.job import Forecast
from bloomery.core.machine import Machine
from bloomery.core.store import Artifact
from bloomery.methods.rollout.single import Single
from bloomery.methods.task.cloze import Cloze
from bloomery.methods.task.humaneval import Humaneval
from bloomery.methods.task.multiple_choice import MultipleChoice
from bloomery.methods.task.needle import Needle
from bloomery.methods.task.variable_tracking import VariableTracking
from bloomery.stages.evaluate import Evaluate

TASKS = (MultipleChoice(), Cloze(), Humaneval(limit=8), Needle(count=3, digits=2), VariableTracking(count=2, hops=1, chains=1))
ROWS = {
    "choices": [{"question": f"{i} and 1 is", "choices": [str(i), str(i + 1), "none"], "answer": 1} for i in range(6)],
    "gaps": [{"context": f"word{i} says", "ending": f"word{i + 1}"} for i in range(5)],
    "functions": [{"prompt": "def f(x):", "test": "def check(f):\n    assert f(1) == 1", "entry_point": "f"}],
}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> dict[str, Artifact]:
    return asked_world(tmp_path_factory.mktemp("world"), {f"{name}.jsonl": rows for name, rows in ROWS.items()}, 320)


def test_every_task_is_asked_graded_checked_and_kept(world, tmp_path):
    todo = job(tmp_path)
    stage = Evaluate(**world, tasks=TASKS, rivals=(), batch=0, rollout=Single(), thought="</think>")
    stage.run(todo)
    stage.check(todo.out, todo)
    todo.demand()
    rows = {metric: row for (metric, _), row in scores_of(todo).items()}
    assert rows["choice_accuracy"]["n"] == 6 and rows["cloze_exact"]["n"] == 5 and rows["humaneval_solved"]["value"] == 0.0
    assert rows["cloze_exact"]["low"] == 0 < rows["cloze_exact"]["high"] < 1, "none of five is not certainly none"
    assert todo.facts["items"] == {"multiple_choice": 18, "cloze": 5, "humaneval": 1, "needle": 3, "variable_tracking": 2}
    assert set(todo.facts["reasoning_traces"].values()) == {0} and sum(todo.facts["truncated"].values()) == 0
    kept = [json.loads(line) for line in (todo.out / "items" / "needle.jsonl").read_text().splitlines()]
    assert all(row["prompt"].count("The code of") == 1 and row["prompt_tokens"] <= 320 for row in kept)
    assert todo.facts["tools"]["run"]["calls"] == 1


def test_a_model_against_another_is_paired_by_question(world, tmp_path):
    todo = job(tmp_path)
    Evaluate(**world, against=world["model"], tasks=TASKS[:2], rivals=(), batch=0, rollout=Single()).run(todo)
    rows = {metric: row for (metric, _), row in scores_of(todo).items()}
    assert rows["choice_accuracy_negative_flips"]["value"] == 0 and rows["choice_accuracy_negative_flips"]["n"] == 6
    for metric in ("choice_accuracy_change", "cloze_exact_change"):
        assert rows[metric]["value"] == 0.0 and rows[metric]["low"] == -rows[metric]["high"] < 0, "none of a few is not certainly none"


def test_a_model_without_numbers_is_not_published(tmp_path):
    world = asked_world(tmp_path, {"choices.jsonl": ROWS["choices"]}, 320)
    (file,) = (tmp_path / "model").glob("*.safetensors")
    save_file({name: tensor * math.nan for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    todo = job(tmp_path)
    stage = Evaluate(**world, tasks=TASKS[:1], rivals=(), batch=0, rollout=Single())
    stage.run(todo)
    stage.check(todo.out, todo)
    with pytest.raises(CheckFailed, match=r"alone against in a batch, nats per token is nan.*plain forward pass against in a batch"):
        todo.demand()


def test_a_second_task_of_a_kind_has_facts_of_its_own(world, tmp_path):
    todo = job(tmp_path)
    Evaluate(**world, tasks=(Needle(count=2, digits=2), Needle(count=3, digits=3)), rivals=(), batch=0, rollout=Single()).run(todo)
    assert {"needle_found", "needle_2.needle_found"} <= set(todo.facts) and todo.facts["items"] == {"needle": 2, "needle_2": 3}


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
