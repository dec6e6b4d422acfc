"""Models side by side by their evaluations: figures by hand, twins, corrections, curves, and the page of them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.core.store import Artifact
from bloomery.draw import page
from bloomery.draw.comparing import comparison
from bloomery.lab.evaluations import _adjusted, _p, compared
from bloomery.num.statistics import paired
from bloomery.seams import Rng

COUNT = 60


class Shelf:
    """A store as the comparison sees it."""

    def __init__(self) -> None:
        self.by_name: dict[str, Artifact] = {}

    def get(self, name: str) -> Artifact:
        if name not in self.by_name:
            raise BadInput(f"there is no artifact or step '{name}'")
        return self.by_name[name]

    def add(self, root: Path, name: str, kind: str, stage: str, facts: dict | None = None, seconds: float = 0.0, **inputs: str) -> Artifact:
        (root / name).mkdir()
        card = {
            "kind": kind, "stage": stage, "step": name, "facts": facts or {}, "cost": {"seconds": seconds},
            "inputs": {knob: [address] for knob, address in inputs.items()}, "knobs": {"tasks": [{"next_line": {}}]},
        }  # fmt: skip
        self.by_name[name] = Artifact(name, root / name, card)
        return self.by_name[name]


def evaluated(shelf: Shelf, root: Path, name: str, model: str, right: np.ndarray, leaked: set[int], perplexity: float) -> None:
    """An evaluation of a model that got some items right, with a task of lm-eval beside."""
    one = shelf.add(
        root, name, "scores", "evaluate", {"training_text": {"known": "whole", "from": ["corpus-1"], "missing": []}}, 5.0, model=model
    )
    (one.folder / "items").mkdir()
    rows = [
        {
            "id": str(i), "group": str(i), "kind": "", "score": float(ok), "parts": {}, "prompt_tokens": 10, "dropped": 0, "tokens": 4,
            "prompt": f"question {i}", "target": "answer", "text": "answer", "ended": "stop", "thought": 0, "ids": [1],
            "contaminated": i in leaked,
        }
        for i, ok in enumerate(right)
    ]  # fmt: skip
    (one.folder / "items" / "next_line.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (one.folder / "items" / "next_line.before.jsonl").write_text("{}\n")
    requests = [{"arguments": ["asked", "answer"], "logp": -1.0}]
    lines = [{"id": str(i), "requests": requests, "wanted": 0, "scores": {"acc": float(ok), "nats": 2.0 + i}} for i, ok in enumerate(right)]
    (one.folder / "items" / "lm_eval.quiz.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    clean = right[[i for i in range(len(right)) if i not in leaked]]
    twin = {
        "clean": float(clean.mean()),
        "clean_low": float(clean.mean()) - 0.1,
        "clean_high": float(clean.mean()) + 0.1,
        "clean_n": len(clean),
    }
    about = {"low": float(right.mean()) - 0.1, "high": float(right.mean()) + 0.1, "n": len(right), "contaminated": len(leaked), "note": ""}
    share = {"unit": "share", "better": "higher", "subject": "model"}
    none = {"clean": None, "clean_low": None, "clean_high": None, "clean_n": None, "low": None, "high": None, "contaminated": 0, "note": ""}
    scores = [
        {"task": "next_line", "metric": "next_line_exact", "value": float(right.mean()), **share, **about, **twin},
        {"task": "lm_eval.quiz", "metric": "acc", "value": float(right.mean()), **share, **about, **twin},
        {
            **none,
            "task": "lm_eval.quiz",
            "metric": "nats",
            "value": perplexity,
            "unit": "",
            "better": "lower",
            "subject": "model",
            "n": COUNT,
        },
        {**none, "task": "size", "metric": "weights_on_disk", "value": 1e6, "unit": "bytes", "better": "lower", "subject": "model", "n": 1},
        {**none, "task": "next_line", "metric": "next_line_exact", "value": 1.0, **share, "subject": "reference text", "n": COUNT},
    ]
    (one.folder / "scores.json").write_text(json.dumps({"scores": scores}))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> Shelf:
    root, made, gen = tmp_path_factory.mktemp("shelf"), Shelf(), np.random.default_rng(1)
    made.add(root, "lm1", "model", "pretrain", {"tokens": 1e6, "parameters": 5e5}, 30.0)
    made.add(root, "lm2", "model", "pretrain", {"tokens": 2e6, "parameters": 5e5}, 60.0, after="lm1")
    made.add(root, "tuned", "model", "tune", {"tokens": 5e5, "parameters": 5e5}, 10.0, model="lm2", data="chats")
    weak, strong = gen.random(COUNT) < 0.3, gen.random(COUNT) < 0.8
    for name, model, right, leaked in (
        ("a", "lm1", weak, {0, 1, 2}),
        ("b", "lm2", weak | (gen.random(COUNT) < 0.1), {2, 3}),
        ("c", "tuned", strong, set()),
    ):
        evaluated(made, root, name, model, np.asarray(right, float), leaked, perplexity=3.0)
    return made


def test_differences_are_those_of_the_same_items_and_have_clean_twins(shelf):
    found = compared(["a", "@c"], shelf)
    (line,) = (one for one in found["differences"] if one["task"] == "next_line")
    rows = {
        name: [json.loads(text) for text in (shelf.get(name).folder / "items" / "next_line.jsonl").read_text().splitlines()]
        for name in "ac"
    }
    scores = {name: np.array([row["score"] for row in rows[name]]) for name in "ac"}
    assert (line["model"], line["minus"], line["metric"], line["n"]) == ("tuned", "lm1", "next_line_exact", COUNT)
    assert line["value"] == pytest.approx((scores["c"] - scores["a"]).mean()) and line["low"] < line["value"] < line["high"]
    assert line["clean"] == pytest.approx((scores["c"] - scores["a"])[3:].mean()), "without what either has in its training text"
    expected = paired(scores["c"], scores["a"], [1.0] * COUNT, [str(i) for i in range(COUNT)], Rng(("x",)))
    assert line["low"] == pytest.approx(expected.low, abs=0.05)


def test_metrics_of_lm_eval_are_paired_where_they_are_means(shelf):
    found = compared(["a", "b", "c"], shelf)["differences"]
    assert {(one["task"], one["metric"]) for one in found} == {("next_line", "next_line_exact"), ("lm_eval.quiz", "acc")}
    assert {one["model"] for one in found} == {"lm2", "tuned"} and {one["minus"] for one in found} == {"lm1"}
    assert all(one["adjusted"] >= one["p"] for one in found)


def test_holm_by_hand():
    rows = [{"value": value, "low": value - 0.2, "high": value + 0.2, "groups": 60} for value in (0.0, 0.25, 0.3)]
    found = _adjusted([*rows, {"value": 1.0, "low": None, "high": None, "groups": 1}])
    p = [_p(row) for row in rows]
    error = 0.4 / (2 * 1.959964)
    assert p[2] == pytest.approx(math.erfc(0.3 / error / math.sqrt(2))) and p[0] == 1
    adjusted = [3 * p[2], max(3 * p[2], 2 * p[1]), 1.0]
    assert [found[i]["adjusted"] for i in (2, 1, 0)] == pytest.approx(adjusted) and found[3]["adjusted"] is None


def test_few_groups_prove_little_however_alike_they_are():
    """Five items that one model solves and the other does not: a bootstrap has no width, and signs agree by chance once in sixteen."""
    same = {"value": 1.0, "low": 1.0, "high": 1.0}
    assert _p({**same, "groups": 5}) == 1 / 16 and _p({**same, "groups": 2}) == 0.5 and _p({**same, "groups": 40}) < 1e-9
    assert _p({"value": 0.0, "low": 0.0, "high": 0.0, "groups": 40}) == 1
    assert _p({"value": 1.0, "low": 0.9, "high": 1.1, "groups": 3}) == 0.25


def test_chance_alone_seldom_survives_the_correction():
    gen, errors, single = np.random.default_rng(0), 0, 0
    for _ in range(200):
        values = gen.normal(size=20)
        found = _adjusted([{"value": v, "low": v - 1.96, "high": v + 1.96, "groups": 99} for v in values])
        errors += any(one["adjusted"] < 0.05 for one in found)
        single += any(one["p"] < 0.05 for one in found)
    assert errors <= 20 < 100 < single, "a family of twenty has a false one in two of three, corrected in one of twenty"


def test_costs_tokens_and_curves_over_training(shelf):
    found = compared(["a", "b", "c"], shelf)
    models = found["models"]
    assert [one["trained_tokens"] for one in models] == [1e6, 3e6, 3.5e6] and models[2]["training_seconds"] == 100
    assert models[0] == {
        **models[0],
        "items": 2 * COUNT,
        "requests": COUNT,
        "tokens_read": 10 * COUNT,
        "tokens_written": 4 * COUNT,
        "seconds": 5.0,
    }
    curve = next(one for one in found["curves"] if one["metric"] == "acc")
    (series,) = curve["series"]
    assert series["name"] == "tuned" and [point[0] for point in series["points"]] == [1e6, 3e6, 3.5e6]
    assert not compared(["a", "a"], shelf)["curves"], "one model is no curve"
    values = next(one for one in found["scores"] if one["metric"] == "next_line_exact" and not one["subject"])["values"]
    assert [value["contaminated"] for value in values] == [3, 2, 0]


def test_the_page_shows_all_of_it(shelf):
    told = compared(["a", "b", "c"], shelf)
    found = comparison(told)
    html = page.render(page.COMPARISON, title="models", **found)
    assert "http" not in html.replace("http-equiv", "")
    for words in ("next line exact", "clean", "Holm", "4 differences", "tokens trained on", "Weights on disk", "corpus-1"):
        assert words in html, words
    best = next(row for row in found["rows"] if row["metric"] == "next line exact")
    assert [cell["best"] for cell in best["cells"]] == [False, False, True] and "57 items" in best["cells"][0]["clean"]
    assert any(row["side"] == "good" for row in found["table"] if row["model"] == "tuned")
    assert [bool(row["side"]) for row in found["table"]] == [row["adjusted"] < 0.05 for row in told["differences"]]
    assert html.count("<svg") > 10


def test_what_is_no_evaluation_is_refused(shelf):
    with pytest.raises(BadInput, match="two evaluations at least"):
        compared(["a"], shelf)
    with pytest.raises(BadInput, match="lm1 is a model, not an evaluation"):
        compared(["a", "lm1"], shelf)


def test_the_command_shows_tables_lines_and_a_page(shelf, monkeypatch, capsys, tmp_path):
    from bloomery.cli.main import guarded

    monkeypatch.setattr("bloomery.core.store.Store", lambda *_, **__: shelf)
    assert guarded(["compare", "a", "b", "c", "--html", str(tmp_path / "page.html")]) == 0
    out = capsys.readouterr().out
    assert "4 differences" in out and "clean" in out and "Tokens trained on" in out and "quiz of lm-eval" in out
    assert "lm1, lm2 and tuned" in (tmp_path / "page.html").read_text()
    assert guarded(["compare", "a", "c", "--json"]) == 0
    kinds = [json.loads(line)["kind"] for line in capsys.readouterr().out.splitlines()]
    assert kinds.count("model") == 2 and kinds.count("difference") == 2 and {"score", "curve"} <= set(kinds)
    for wrong, said in (
        (["adamw", "lion"], "adamw is a method; say --seam optim"),
        (["a", "nothing"], "no artifact or step 'nothing'"),
        (["a", "b", "--html", str(tmp_path / "no" / "page.html")], "there is no folder"),
        (["adamw", "lion", "--seam", "optim", "--html", "page.html"], "--html goes with evaluations"),
    ):
        assert guarded(["compare", *wrong]) == 2
        assert said in capsys.readouterr().err
