"""The evaluate stage with files in the forms of published benchmarks, and several samples of an item."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from bloomery.core.executors import Local
from bloomery.core.job import Forecast, Job
from bloomery.core.log import Log
from bloomery.core.machine import Machine
from bloomery.core.signals import Signals
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
from bloomery.seams import Rng
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
    from bloomery.core.rng import torch_rng
    from bloomery.data.tokenizer import learn
    from bloomery.nn.config import Config
    from bloomery.nn.model import Transformer
    from bloomery.nn.saving import save

    root = tmp_path_factory.mktemp("world")
    for name in ("questions", "model"):
        (root / name).mkdir()
    for name, rows in ROWS.items():
        lines = json.dumps(rows) if name.endswith(".json") else "".join(json.dumps(row) + "\n" for row in rows)
        (root / "questions" / name).write_text(lines)
    (root / "questions" / "databases").mkdir()
    base = sqlite3.connect(root / "questions" / "databases" / "towns.sqlite")
    base.executescript("CREATE TABLE town (name TEXT); INSERT INTO town VALUES ('a'), ('b');")
    base.close()
    net = Transformer(Config(vocab=300, width=32, layers=1, heads=2, kv_heads=2, ffn=32, context=800))
    for p in net.parameters():
        p.data.normal_(0, 0.3, generator=torch_rng(Rng((1, *p.shape))))
    save(net.eval(), root / "model")
    learn(["word1 says word2 and the miller sold three bricks near the river\n" * 20] * 4, 300).save(root / "model")
    facts = {name: {"kind": "model" if name == "model" else "folder", "facts": {}} for name in ("model", "questions")}
    return {name: Artifact(name * 8, root / name, card) for name, card in facts.items()}


def job(root: Path) -> Job:
    for name in ("out", "work"):
        (root / name).mkdir(parents=True, exist_ok=True)
    return Job(root / "out", root / "work", Rng((0, "evaluate")), 0, Log(quiet=True), Local(1), None, {}, Signals())


def test_every_form_is_read_asked_graded_and_kept(world, tmp_path):
    todo = job(tmp_path)
    stage = Evaluate(**world, tasks=TASKS, filters=(Temperature(),), rivals=(), batch=0, rollout=Single())
    stage.run(todo)
    stage.check(todo.out, todo)
    todo.demand()
    rows = {(row["metric"], row["subject"]): row for row in json.loads((todo.out / "scores.json").read_text())["scores"]}
    assert {(metric, "model") for metric in METRICS.split()} <= set(rows)
    assert all(row["value"] is not None and row["unit"] for (metric, _), row in rows.items())
    for metric in ("p3_solved", "p3_solved_in_k", "functions_solved", "sql_executed", "api_completed", "plan_shortest"):
        assert rows[metric, "model"]["value"] == 0, "a random model solves nothing"
    assert rows["longbench_cut", "model"]["value"] == 1 and rows["retrieval_ndcg_10", "bm25"]["value"] == 1
    assert "3 samples, k 2" in rows["p3_solved", "model"]["note"] and "samples" not in rows["sql_executed", "model"]["note"]
    kept = [json.loads(line) for line in (todo.out / "items" / "p3.jsonl").read_text().splitlines()]
    assert [row["id"] for row in kept] == [f"puzzles:{i}/{k}" for i in range(2) for k in range(3)]
    assert len({row["text"] for row in kept[:3]}) == 3, "samples are drawn apart"


def test_negative_flips_stand_beside_the_change(world, tmp_path):
    todo = job(tmp_path)
    Evaluate(**world, against=world["model"], tasks=TASKS[2:4], rivals=(), batch=0, rollout=Single()).run(todo)
    rows = {row["metric"]: row for row in json.loads((todo.out / "scores.json").read_text())["scores"]}
    assert rows["sql_executed_negative_flips"]["value"] == 0 == rows["api_completed_negative_flips"]["value"]


def test_greedy_samples_are_refused_and_several_are_planned():
    for task in (TASKS[0], Humaneval(samples=2)):
        with pytest.raises(ValueError, match="greedy samples of"):
            Evaluate(None, tasks=(task,), rollout=Single())

    def seconds(task) -> float:
        inputs = {"model": Forecast(facts={"parameters": 1e8}), "questions": Forecast(facts={"bytes": 3e6})}
        stage = Evaluate(None, tasks=(task,), filters=(Temperature(),), rivals=(), rollout=Single())
        return stage.forecast(inputs, Machine("test", 2, 8 << 30, True, {"float32": 1e11})).seconds

    assert seconds(Humaneval(count=10)) < seconds(Humaneval(count=10, samples=10))
