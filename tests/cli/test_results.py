from __future__ import annotations

import json
import os
from types import SimpleNamespace

from bloomery.cli.results import called, show_scores


def test_a_program_is_named_as_a_shell_would_run_it() -> None:
    assert called("/some/where/bloomery/__main__.py") == "python -m bloomery"
    assert called(os.path.abspath("bin/bloomery")) == os.path.join("bin", "bloomery")


def test_tasks_without_items_and_scores_without_training_text_are_told(tmp_path, capsys) -> None:
    one = {"metric": "nats", "subject": "model", "value": 1.5, "low": 1.0, "high": 2.0, "n": 3, "clean": None}
    (tmp_path / "scores.json").write_text(json.dumps({"scores": [one]}))
    facts = {"left_out": ["needle", "p3"], "training_text": {"from": [], "missing": ["the folder x"], "known": "no"}}
    show_scores(SimpleNamespace(path=lambda name: tmp_path / name, facts=facts))
    said = capsys.readouterr().out
    assert "no clean twins" in said and "the folder x" in said and said.rstrip().endswith("needle, p3")
    show_scores(SimpleNamespace(path=lambda name: tmp_path / name, facts={"left_out": []}))
    assert "left out" not in capsys.readouterr().out


def test_a_metric_is_told_with_its_task_where_it_could_be_of_another(tmp_path, capsys) -> None:
    about = {"subject": "model", "value": 0.5, "low": 0.25, "high": 0.75, "n": 3}
    named = [("lm_eval.quiz", "acc"), ("needle", "found"), ("needle_2", "found"), ("cloze", "cloze_exact")]
    (tmp_path / "scores.json").write_text(json.dumps({"scores": [{"task": task, "metric": metric, **about} for task, metric in named]}))
    show_scores(SimpleNamespace(path=lambda name: tmp_path / name, facts={}))
    told = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()[2:]]
    assert told == ["quiz: acc", "needle: found", "needle_2: found", "cloze_exact"]
