"""Evaluations from the command line: run, shown, listed by items, laid side by side, for people and for programs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[1] / "stages"))

from small_evaluate import asked_world

from bloomery.cli.main import guarded

CHOICES = [{"question": f"word{i} says", "choices": ["word1", "word2 and", "the miller"], "answer": i % 3} for i in range(6)]
RECIPE = """
steps:
  a: {stage: evaluate, model: one/model, questions: one/questions, tasks: &asked [multiple_choice, {cloze: {count: 4}}], batch: 0}
  b: {stage: evaluate, model: two/model, questions: one/questions, tasks: *asked, batch: 0}
  page: {stage: report, of: [$a, $b]}
"""


def strict(text: str) -> list[dict[str, Any]]:
    """A JSON object a line, without the numbers that JSON has not."""
    return [json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON")) for line in text.splitlines()]


@pytest.fixture
def made(store, monkeypatch, tmp_path, capsys) -> list[dict[str, Any]]:
    """What `run --json` says of two evaluations and their report; the store holds them."""
    monkeypatch.setenv("BLOOMERY_STORE", str(store.root))
    gaps = [{"context": f"word{i} says", "ending": "word2"} for i in range(4)]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made = asked_world(tmp_path / name, {"choices.jsonl": CHOICES, "gaps.jsonl": gaps}, 64)["model"].folder
        if name == "two":
            tensors = {key: one.flip(0).contiguous() for key, one in load_file(made / "model.safetensors").items()}
            save_file(tensors, made / "model.safetensors")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    assert guarded(["run", "recipe.yaml", "--quiet", "--json"]) == 0
    return strict(capsys.readouterr().out)


def test_every_command_about_evaluations_speaks_to_people_and_to_programs(made, store, tmp_path, capsys):
    def said(*words: str, code: int = 0) -> str:
        assert guarded(list(words)) == code
        printed = capsys.readouterr()
        return printed.err if code else printed.out

    assert [row["step"] for row in made] == ["a", "b", "page"] and made[0]["items"] == {"multiple_choice": 18, "cloze": 4}
    (card,) = strict(said("show", "a", "--json"))
    assert card["kind"] == "scores" and "choice_accuracy" in said("show", "a")
    items = strict(said("show", "a", "--items", "cloze", "--json"))
    assert len(items) == 4 and all({"id", "prompt", "text", "target", "score"} <= set(one) for one in items)
    assert strict(said("show", "a", "--items", "cloze", "--item", items[1]["id"], "--json")) == [items[1]]
    assert items[1]["prompt"] in said("show", "a", "--items", "cloze", "--item", items[1]["id"])

    lines = strict(said("compare", "a", "b", "--json"))
    assert [one["kind"] for one in lines[:2]] == ["model", "model"] and {one["kind"] for one in lines} == {"model", "score", "difference"}
    values = {one["metric"]: [cell["value"] for cell in one["values"]] for one in lines if one["kind"] == "score"}
    (gap,) = (one for one in lines if one["kind"] == "difference" and one["metric"] == "choice_accuracy")
    assert gap["value"] == pytest.approx(values["choice_accuracy"][1] - values["choice_accuracy"][0]) and gap["n"] == 6
    page = tmp_path / "page.html"
    assert "choice accuracy" in said("compare", "a", "b", "--html", str(page)) and "choice accuracy" in page.read_text()
    assert "choice accuracy" in next(store.artifacts.glob("report-*/report.html")).read_text()
    assert "named more than once" in said("compare", "a", "b", "a", code=2)
    assert "--seam task" in said("compare", "cloze", "a", code=2)
