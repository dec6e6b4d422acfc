"""The evaluate stage with files in the forms of published benchmarks, and several samples of an item."""

from __future__ import annotations

import json
import sqlite3

import pytest
from small_evaluate import asked_world, job, scores_of

from bloomery.core.job import Forecast
from bloomery.core.machine import Machine
from bloomery.core.store import Artifact
from bloomery.methods.filter.temperature import Temperature
from bloomery.methods.rollout.single import Single
from bloomery.methods.task.api_changes import ApiChanges
from bloomery.methods.task.chunk_overlap import ChunkOverlap
from bloomery.methods.task.functions import Functions
from bloomery.methods.task.group_bias import GroupBias
from bloomery.methods.task.humaneval import Humaneval
from bloomery.methods.task.ifeval import Ifeval
from bloomery.methods.task.longbench import Longbench
from bloomery.methods.task.machine_text import MachineText
from bloomery.methods.task.p3 import P3
from bloomery.methods.task.planning_graphs import PlanningGraphs
from bloomery.methods.task.retrieval import Retrieval
from bloomery.methods.task.text_to_sql import TextToSql
from bloomery.stages.evaluate import Evaluate

for package in ("rouge_score", "bm25s", "py3langid"):
    pytest.importorskip(package)

TASKS = (
    P3(shots=0, limit=8, samples=3, k=2), Functions(rounds=2, limit=8), TextToSql(limit=8, copies=1), ApiChanges(limit=8), Ifeval(limit=8),
    Longbench(tokens=300), PlanningGraphs(count=2, places=5, limit=8), Retrieval(), ChunkOverlap(size=4), MachineText(), GroupBias(),
)  # fmt: skip
ROWS = {
    "puzzles.json": [
        {"name": f"A{i}:0", "sat": "def sat(x: int):\n    return x == 7", "ans_type": "int", "sol_header": "def sol():"}
        for i in range(2)
    ],
    "examples.jsonl": [{"entry_point": "f", "examples": [["f(1)", "2"], ["f(2)", "3"], ["f(3)", "4"], ["f(4)", "5"]],
                        "tests": [["f(9)", "10"]]}],
    "dev.json": [{"question": "How many towns?", "db_id": "towns", "SQL": "SELECT count(*) FROM town", "difficulty": "simple"}],
    "uses.jsonl": [
        {"module": "m", "old": "def f(x): return x", "new": "def f(*, y): return y", "about": "Give 1.",
         "legacy": "m.f(1)", "updated": "m.f(y=1)"}
    ],
    "rules.jsonl": [{"key": 1, "prompt": "Say it.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}],
    "qasper.jsonl": [
        {"input": "Who?", "context": "The miller. " * 200, "answers": ["the miller"],
                      "dataset": "qasper", "all_classes": None, "length": 400}],
    "queries.jsonl": [{"query": "the long river", "gold_ids": ["1"], "excluded_ids": ["N/A"]}],
    "corpus.jsonl": [{"id": str(i), "content": f"{i} {text}"} for i, text in enumerate(("a river", "the long river", "two baskets"))],
    "chunks.jsonl": [{"document": "The miller sold bricks. The river is long.", "question": "what did the miller sell",
                      "spans": ["The miller sold bricks"]}],
    "written.jsonl": [{"text": "the miller sold three bricks near the river " * 9, "label": label} for label in ("human", "machine") * 2],
    "people.jsonl": [{"template": "Then the {group}", "groups": ["miller", "clerk"], "kind": ["sold"], "unkind": ["stole"]}],
}  # fmt: skip
METRICS = (
    "p3_solved p3_solved_in_k functions_solved functions_solved_by_last functions_conform sql_executed sql_executed_on_copies "
    "sql_efficiency api_completed api_corrected api_outdated ifeval_prompts_strict ifeval_instructions_loose longbench_score "
    "longbench_cut plan_reached retrieval_ndcg_10 chunk_iou machine_text_auc bias_gap"
)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> dict[str, Artifact]:
    made = asked_world(tmp_path_factory.mktemp("world"), ROWS, 800)
    (made["questions"].folder / "databases").mkdir()
    base = sqlite3.connect(made["questions"].folder / "databases" / "towns.sqlite")
    base.executescript("CREATE TABLE town (name TEXT); INSERT INTO town VALUES ('a'), ('b');")
    base.close()
    return made


def test_every_form_is_read_asked_graded_and_kept(world, tmp_path):
    todo = job(tmp_path)
    stage = Evaluate(**world, tasks=TASKS, filters=(Temperature(),), rivals=(), batch=0, rollout=Single())
    stage.run(todo)
    stage.check(todo.out, todo)
    todo.demand()
    rows = scores_of(todo)
    assert {(metric, "model") for metric in METRICS.split()} <= set(rows)
    assert all(row["value"] is not None and row["unit"] for (metric, _), row in rows.items())
    for metric in ("p3_solved", "p3_solved_in_k", "functions_solved", "sql_executed", "api_completed", "plan_shortest"):
        assert rows[metric, "model"]["value"] == 0, "a random model solves nothing"
    assert "Lastde++" in {subject for metric, subject in rows if metric == "machine_text_auc"}
    assert rows["longbench_cut", "model"]["value"] == 1 and rows["retrieval_ndcg_10", "bm25"]["value"] == 1
    assert "3 samples, k 2" in rows["p3_solved", "model"]["note"] and "samples" not in rows["sql_executed", "model"]["note"]
    kept = [json.loads(line) for line in (todo.out / "items" / "p3.jsonl").read_text().splitlines()]
    assert [row["id"] for row in kept] == [f"puzzles:{i}/{k}" for i in range(2) for k in range(3)]
    assert len({row["text"] for row in kept[:3]}) == 3, "samples are drawn apart"


def test_a_model_beside_itself_differs_in_nothing_and_each_change_is_that_of_a_figure(world, tmp_path):
    todo = job(tmp_path)
    Evaluate(**world, against=world["model"], tasks=TASKS[1:], rivals=(), batch=0, rollout=Single()).run(todo)
    rows = scores_of(todo)
    changes = {metric: row for (metric, _), row in rows.items() if metric.endswith(("_change", "_negative_flips"))}
    assert all(row["value"] == 0 for row in changes.values())
    for metric in ("functions_solved", "sql_executed", "api_completed", "ifeval_prompts_strict", "plan_reached"):
        assert {f"{metric}_change", f"{metric}_negative_flips"} <= set(changes)
    for metric in ("api_corrected", "api_outdated", "chunk_iou", "machine_text_auc", "bias_gap", "bias_unkind", "longbench_score"):
        assert f"{metric}_change" in changes and f"{metric}_negative_flips" not in changes
    for metric in changes:
        assert (metric.removesuffix("_change").removesuffix("_negative_flips"), "model") in rows


def test_embeddings_search_all_documents_of_the_questions(world, tmp_path):
    todo = job(tmp_path)
    stage = Evaluate(**world, roles={"dense": world["model"]}, tasks=(Retrieval(embedder="dense"),), rivals=(), batch=0, rollout=Single())
    stage.run(todo)
    row = scores_of(todo)["retrieval_recall_5", "embeddings"]
    assert row["value"] == 1 and row["n"] == 1, "of three documents five hold the one that is wanted"
    assert todo.facts["tools"]["embed:dense"]["calls"] == 4, "three documents and a query"


def test_greedy_samples_are_refused_and_several_are_planned():
    for task in (TASKS[0], Humaneval(samples=2)):
        with pytest.raises(ValueError, match="greedy samples of"):
            Evaluate(None, tasks=(task,), rollout=Single())

    def seconds(task) -> float:
        inputs = {"model": Forecast(facts={"parameters": 1e8}), "questions": Forecast(facts={"bytes": 3e6})}
        stage = Evaluate(None, tasks=(task,), filters=(Temperature(),), rivals=(), rollout=Single())
        return stage.forecast(inputs, Machine("test", 2, 8 << 30, True, {"float32": 1e11})).seconds

    assert seconds(Humaneval(count=10)) < seconds(Humaneval(count=10, samples=10))
