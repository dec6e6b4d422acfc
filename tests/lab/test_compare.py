"""Comparisons: equal search, round by round, within the budget; and everything wrong is said before any work."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import yaml

from bloomery.core import catalog
from bloomery.core.errors import BadInput, CheckFailed
from bloomery.core.recipe import parse, read
from bloomery.core.store import Store
from bloomery.core.walk import StepFailed
from bloomery.lab import compare as subject
from bloomery.lab import results
from bloomery.lab.compare import compare, contest
from bloomery.lab.standings import Ended, Target, ranking
from bloomery.lab.trials import Outcome

LOSS = Target(limit=2.0)


class Bench:
    """An executor that trains nothing: a trial's loss falls towards its rate times 100, and a rate above `breaks` diverges."""

    def __init__(self, store: Store, breaks: float = 1.0):
        self.store, self.breaks, self.seen, self.batches = store, breaks, [], []

    def map(self, function: Callable, items: Iterable, label: str = "") -> Iterator[Outcome]:
        items = list(items)
        self.batches.append(len(items))
        for root, recipe in items:
            assert root == str(self.store.root)
            trial = parse(recipe, "trial").steps["trial"]
            self.seen.append((next(iter(trial.knobs["optimizer"])), trial.knobs["rate"]))
            if trial.knobs["rate"] > self.breaks:
                yield Outcome(diverged="loss is not finite")
                continue
            yield Outcome({"trial": self.made(trial.knobs)}, True, 1.0)

    def made(self, knobs: dict[str, Any]) -> str:
        address = f"{len(list(self.store.artifacts.iterdir())):064d}"[::-1]
        out = self.store.work / "out"
        out.mkdir()
        rows = [{"tokens": 10 * i, "tokens_per_second": 5.0, "heldout_nats": 100 * knobs["rate"] + 4 / i} for i in range(1, 5)]
        (out / "curve.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
        card = {
            "address": address,
            "stage": "pretrain",
            "kind": "model",
            "step": "trial",
            "recipe": "r",
            "made": "",
            "knobs": {},
            "inputs": {},
        }
        return self.store.publish("pretrain", out, card).name


@pytest.fixture
def bench(store: Store, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """No world is made either."""
    for name in ("tokens", "corpus"):
        out = store.work / name
        out.mkdir()
        address = name.ljust(64, "0")
        kind = {"kind": name, "step": name, "recipe": "r", "made": "", "knobs": {}, "inputs": {}}
        store.publish("tokenize" if name == "tokens" else "curate", out, {"address": address, "stage": name, **kind})
    inputs = {"tokens": "@tokenize-tokens0000000000", "corpus": "@curate-corpus0000000000"}
    monkeypatch.setattr(subject, "prepared", lambda *given: inputs)
    return Bench(store)


def test_every_method_has_as_many_trials_round_by_round(store, bench) -> None:
    planned = contest("optim", ["adamw", "lion"], LOSS, trials=3, changes=["width=32", "heads=2"])
    standing = compare(planned, store, executor=bench, quiet=True)
    assert [name for name, _ in bench.seen] == ["adamw", "lion"] * 3 and bench.batches == [2, 2, 2]
    for method in ("adamw", "lion"):
        low, high = catalog.entries("optim")[method].class_vars["space"]["rate"]
        rates = [rate for name, rate in bench.seen if name == method]
        assert len(set(rates)) == 3 and all(low <= rate <= high for rate in rates)
    best = min(standing.trials, key=lambda one: one.final)
    reached = [one for one in standing.trials if one.reached(LOSS)]
    assert reached and standing.ranking[0]["best"]["seconds_to_target"] == min(one.reached(LOSS)["seconds"] for one in reached)
    assert best.final == pytest.approx(100 * best.knobs["rate"] + 1) and best.points[-1][:2] == (40, 8.0)
    assert standing.why == "all trials are done" and standing.rounds == 3


def test_when_the_budget_ends_all_have_had_equally_many(store, bench, monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr(subject.time, "monotonic", lambda: now[0])
    real = bench.map

    def slow(*given):
        now[0] += 10
        return real(*given)

    bench.map = slow
    planned = contest("optim", ["adamw", "lion"], LOSS, trials=5)
    standing = compare(planned, store, budget=35, executor=bench, quiet=True)
    assert bench.batches == [2, 2, 2] and standing.rounds == 3 and standing.why == "the budget is spent"
    assert {row["trials"] for row in standing.ranking} == {3}
    assert compare(planned, store, budget=1, executor=bench, quiet=True).rounds == 1, "the first round always runs"


def test_methods_that_share_a_knob_get_the_same_values() -> None:
    one = contest("schedule", ["constant", "wsd"], LOSS, trials=4)
    rates = {method: [drawn["rate"] for drawn in one.drawn[method]] for method in one.methods}
    assert rates["constant"] == rates["wsd"] and len(set(rates["wsd"])) == 4
    assert contest("schedule", ["wsd"], LOSS, trials=9).drawn["wsd"][:4] == one.drawn["wsd"]
    assert contest("schedule", ["wsd"], LOSS, trials=4, seed=1).drawn["wsd"] != one.drawn["wsd"]


def test_what_is_set_is_not_searched_and_a_small_space_is_searched_once() -> None:
    one = contest("optim", ["adamw", "lion"], LOSS, trials=4, changes=["rate=0.004", "adamw.beta2=0.97"])
    assert one.drawn["adamw"] == [{}] and all("rate" not in drawn for drawn in one.drawn["lion"])
    body = one.recipe("adamw", 0)["steps"]["trial"]
    assert body["rate"] == 0.004 and body["optimizer"] == {"adamw": {"beta2": 0.97}}
    assert len(one.drawn["lion"]) == 4 and len({str(drawn) for drawn in one.drawn["lion"]}) == 4


def test_every_seam_of_the_two_stages_makes_whole_recipes() -> None:
    for seam, method in (("schedule", "wsd"), ("saved", "plain"), ("module", "low_rank"), ("compress", "rtn"), ("batching", "whole")):
        if method not in catalog.entries(seam):
            method = next(iter(catalog.entries(seam)))
        one = contest(seam, [method], LOSS, trials=2, changes=["modules=[]"] if seam == "adapter" else [])
        recipe = parse(one.recipe(method, 0), "here")
        assert list(recipe.steps) == ["corpus", "tokens", *(["source"] if seam == "compress" else []), "trial"]


def test_of_copies_the_smallest_that_reaches_the_target_wins() -> None:
    target = contest("compress", ["rtn", "gptq"], LOSS).target
    small, large = (Ended(name, 0, {}, "made", "", [point]) for name, point in (("small", (100, 9.0, 2.0)), ("large", (200, 1.0, 1.5))))
    (first, second) = ranking([large, small], target, "bytes")
    assert (first["method"], first["best"]["bytes_to_target"], second["best"]["bytes_to_target"]) == ("small", 100, 200)


def test_failed_trials_rank_last_and_none_left_is_said(store, bench) -> None:
    bench.breaks = 2e-3
    standing = compare(contest("optim", ["adamw", "lion"], LOSS, trials=3), store, executor=bench, quiet=True)
    assert any(one.failed for one in standing.trials) and not any(row["best"]["failed"] for row in standing.ranking)
    bench.breaks = 0.0
    with pytest.raises(CheckFailed, match=r"no trial came to an end.*not finite"):
        compare(contest("optim", ["adamw"], LOSS, trials=2), store, executor=bench, quiet=True)


def test_settings_that_no_model_can_have_fail_and_a_full_disk_does_not_count(monkeypatch) -> None:
    def raising(wrong: BaseException, cause: BaseException | None = None):
        def carry_out(task):
            raise wrong from cause

        monkeypatch.setattr(subject.trials, "carry_out", carry_out)

    for wrong in (CheckFailed("never moved"), BadInput("rank too large"), StepFailed("rank too large")):
        raising(wrong)
        assert subject.attempt(("", {})).diverged == str(wrong)
    raising(StepFailed("the disk is full"), OSError(28, "full"))
    with pytest.raises(StepFailed, match="full"):
        subject.attempt(("", {}))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"seam": "optm"}, "no seam 'optm'.*optim"),
        ({"seam": "task"}, "no part of pretraining"),
        ({"methods": ["adam"]}, "did you mean adamw"),
        ({"methods": ["adamw", "adamw"]}, "each once"),
        ({"methods": []}, "name the methods"),
        ({"trials": 0}, "at least one trial"),
        ({"world": "pyton"}, "did you mean python"),
        ({"changes": ["optimizer=lion"]}, "what is compared"),
        ({"changes": ["adamw.beta=1"]}, "did you mean beta"),
        ({"changes": ["adamw.beta2=2"]}, "below 1"),
        ({"changes": ["widht=3"]}, "did you mean width"),
        ({"changes": ["width"]}, "knob=value"),
        ({"by": "bytes"}, "seconds and tokens"),
        ({"seam": "compress", "methods": ["rtn"], "by": "tokens"}, "seconds and bytes"),
        ({"seam": "compress", "methods": ["rtn"], "target": Target("heldout_bpb", "bits per byte", 1.0)}, "nats per token"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(given, why) -> None:
    with pytest.raises(BadInput, match=why):
        contest(**{"seam": "optim", "methods": ["adamw"], "target": LOSS, **given})


def test_what_is_left_behind(store, bench, tmp_path) -> None:
    planned = contest("optim", ["adamw", "lion"], LOSS, trials=2, changes=["width=32", "heads=2"])
    standing = compare(planned, store, executor=bench, quiet=True)
    told, picture = results.publish(standing, store)
    found = json.loads(told.read_text())
    assert found["ranking"][0]["method"] == standing.ranking[0]["method"] and len(found["runs"]) == 4
    low, high = catalog.entries("optim")["lion"].class_vars["space"]["rate"]
    assert found["spaces"]["lion"]["rate"] == {"low": low, "high": high}
    drawn = picture.read_text()
    assert drawn.startswith("<svg") and 'xmlns="http://www.w3.org/2000/svg"' in drawn and ">2 target<" in drawn
    assert {one.artifact for one in standing.trials} <= store.kept(), "gc keeps the trials"
    path = results.writable(tmp_path / "winner.yaml")
    results.write_winner(standing, path)
    best = standing.ranking[0]["best"]
    lm = read(path).steps["lm"]
    assert list(lm.knobs["optimizer"]) == [best["method"]] and lm.knobs["rate"] == best["knobs"]["rate"] and lm.knobs["width"] == 32
    assert yaml.safe_load(path.read_text())["steps"]["tokens"]["corpus"] == "$corpus"
    for bad in (path, tmp_path / "no" / "winner.yaml"):
        with pytest.raises(BadInput, match="--write"):
            results.writable(bad)


def test_other_ways_of_comparing_have_names_of_their_own() -> None:
    names = [
        contest("optim", ["adamw"], LOSS, trials=1, **more).name for more in ({}, {"seed": 1}, {"changes": ["width=32"]}, {"by": "tokens"})
    ]
    assert all(a != b for a, b in pairwise(sorted(names)))
    assert contest("optim", ["adamw"], LOSS, trials=3).name == names[0]
