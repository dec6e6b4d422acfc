"""The evaluate stage with tasks of lm-eval: scores beside bloomery's own, items on disk, another model, checks that notice damage."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install -c constraints.txt 'bloomery[lm-eval]'")
sys.path.insert(0, str(Path(__file__).parents[1] / "infer"))

from small_evaluate import job
from small_harness import write_model, write_tasks

from bloomery.core.errors import BadInput
from bloomery.core.job import Job
from bloomery.core.store import Artifact
from bloomery.methods.rollout.single import Single
from bloomery.stages.evaluate import Evaluate


def artifact(folder: Path, kind: str) -> Artifact:
    return Artifact(folder.name * 8, folder, {"kind": kind, "facts": {}})


@pytest.fixture(scope="module")
def stage(tmp_path_factory) -> Evaluate:
    import datasets

    root = tmp_path_factory.mktemp("stage")
    datasets.config.HF_DATASETS_CACHE = root / "cache"
    (root / "tasks").mkdir()
    model, other = (artifact(write_model(root / name, style), "model") for name, style in (("one", "llama"), ("two", "qwen3")))
    tasks = artifact(write_tasks(root / "tasks"), "folder")
    how = {"lm_eval": ("choices", "written"), "lm_eval_folder": tasks, "tasks": (), "rivals": (), "batch": 0, "rollout": Single()}
    return Evaluate(model, against=other, **how)


@pytest.fixture(scope="module")
def finished(stage, tmp_path_factory) -> Job:
    todo = job(tmp_path_factory.mktemp("finished"))
    stage.run(todo)
    stage.check(todo.out, todo)
    return todo


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_scores_items_and_checks(finished):
    rows = json.loads((finished.out / "scores.json").read_text())["scores"]
    found = {(row["task"], row["metric"], row["subject"]): row for row in rows}
    acc, before, change = (found["lm_eval.choices", *key] for key in (("acc", "model"), ("acc", "before"), ("acc_change", "model")))
    assert change["value"] == pytest.approx(acc["value"] - before["value"]) and change["low"] <= change["value"] <= change["high"]
    assert acc["better"] == "higher" and "2 examples" in acc["note"] and acc["clean"] is None, "no training text is at hand"
    assert finished.facts["lm_eval"]["choices"]["acc"] == acc["value"]
    items = lines(finished.out / "items" / "lm_eval.choices.jsonl")
    assert sum(item["scores"]["acc"] for item in items) / len(items) == acc["value"] and len(items) == 12
    assert (finished.out / "items" / "lm_eval.written.before.jsonl").is_file()
    assert [one["ok"] for one in finished.checks] == [True] * len(finished.checks) and len(finished.checks) >= 3


def test_a_finished_run_is_not_asked_again(stage, finished, monkeypatch):
    for verb in ("_scored", "_rolling", "_written"):
        monkeypatch.setattr(f"bloomery.infer.harness.Harness.{verb}", lambda *_: pytest.fail("asked again"))
    before = (finished.out / "items" / "lm_eval.written.jsonl").read_bytes()
    shutil.rmtree(finished.out / "items")
    stage.run(finished)
    assert (finished.out / "items" / "lm_eval.written.jsonl").read_bytes() == before


def test_check_notices_altered_likelihoods_and_replies(stage, finished, tmp_path):
    shutil.copytree(finished.out, tmp_path / "out")
    for name, change in (("choices", lambda one: one.update(logp=one["logp"] + 1)), ("written", lambda one: one["ids"].reverse())):
        path = tmp_path / "out" / "items" / f"lm_eval.{name}.jsonl"
        rows = lines(path)
        for row in rows:
            change(row["requests"][0])
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    todo = job(tmp_path)
    stage.check(tmp_path / "out", todo)
    assert ["likelihood" in one["name"] or "greedy" in one["name"] for one in todo.checks if not one["ok"]] == [True, True]


def test_the_plan_counts_items_tokens_and_seconds(stage, finished):
    from dataclasses import replace

    from bloomery.core.job import Forecast
    from bloomery.core.machine import Machine

    machine = Machine("test", 2, 8 << 30, False, {"float32": 1e11})
    inputs = {"model": Forecast(facts={"parameters": 10**6})}
    found = replace(stage, against=None).forecast(inputs, machine)
    told = finished.facts["lm_eval"]
    assert found.facts["items"] == found.facts["lm_eval_items"] == sum(one["items"] for one in told.values())
    requests = [
        request for name in told for item in lines(finished.out / "items" / f"lm_eval.{name}.jsonl") for request in item["requests"]
    ]
    assert found.facts["lm_eval_requests"] == len(requests)
    size = sum(len(text.encode()) for request in requests for text in request["arguments"] if isinstance(text, str))
    limits = 12 * told["written"]["items"]
    assert found.facts["tokens"] == pytest.approx(size / 3 + limits, rel=0.02), "three bytes a token, where no tokenizer is known"
    nothing = replace(stage, lm_eval=(), against=None).forecast(inputs, machine)
    assert found.seconds > nothing.seconds and nothing.facts["items"] == 0
    few = replace(stage, lm_eval_limit=2, against=None).forecast(inputs, machine)
    assert few.facts["items"] == 4 and few.facts["tokens"] < found.facts["tokens"]
    later = replace(stage, lm_eval_folder=None, against=None).forecast({**inputs, "lm_eval_folder": Forecast()}, machine)
    assert later.facts["lm_eval_items"] is None and later.facts["items"] == 0


def test_data_that_would_have_to_be_fetched_is_not_counted(tmp_path):
    from bloomery.infer.harness_tasks import Wanted, load

    text = "task: faraway\ndataset_path: nobody/nothing\noutput_type: loglikelihood\ntest_split: test\n"
    (tmp_path / "faraway.yaml").write_text(text + 'doc_to_text: ""\ndoc_to_target: "{{text}}"\nmetric_list: [{metric: acc}]\n')
    assert load(Wanted(("faraway",), tmp_path)) is None


def test_knobs_out_of_range_and_a_missing_package(stage, monkeypatch):
    with pytest.raises(ValueError, match="lm_eval_limit"):
        Evaluate(stage.model, lm_eval=("choices",), lm_eval_limit=0)
    from bloomery.stages import _evaluate_harness

    monkeypatch.setattr(_evaluate_harness.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"bloomery\[lm-eval\]"):
        _evaluate_harness.demand()
