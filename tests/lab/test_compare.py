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
from bloomery.lab import compare as subject
from bloomery.lab import results, timing
from bloomery.lab.attempts import attempt
from bloomery.lab.compare import compare, contest, length
from bloomery.lab.standings import Ended, Target, ranking
from bloomery.lab.trials import Outcome

LOSS = Target(limit=2.0)


class Bench:
    """An executor that trains nothing: a trial's loss falls towards its rate times 100, and a rate above `breaks` diverges. Steps take
    what `steps` says of the method; a trial took `cost` seconds when it was made."""

    def __init__(self, store: Store, breaks: float = 1.0):
        self.store, self.breaks, self.seen, self.batches, self.timed, self.cost = store, breaks, [], [], [], 0.0
        self.steps = {"adamw": 2.0, "lion": 3.0}

    def map(self, function: Callable, items: Iterable, label: str = "") -> Iterator[Any]:
        items = list(items)
        if function is timing.timed:
            assert len(items) == 1, "nothing runs beside what is timed"
            trial = parse(items[0][1], "timing").steps["trial"]
            self.timed.append((next(iter(trial.knobs["optimizer"])), trial.knobs["rate"]))
            yield [self.steps[self.timed[-1][0]]] * 3
            return
        assert function is attempt and not self.timed
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
            "cost": {"seconds": self.cost},
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
    assert best.final == pytest.approx(100 * best.knobs["rate"] + 1) and best.points[-1][0] == 40
    assert standing.why == "all trials are done" and standing.rounds == 3


def test_seconds_are_steps_at_the_pace_of_each_method_timed_after_the_trials(store, bench) -> None:
    """The curves say that all steps took 2 s, whatever the method; a comparison that finds all in the store times anew."""
    planned = contest("optim", ["lion", "adamw"], LOSS, trials=3)
    standing = compare(planned, store, executor=bench, quiet=True)
    assert [name for name, _ in bench.timed] == ["lion", "adamw"] * timing.TURNS
    for method in planned.methods:
        best = min((one for one in standing.trials if one.method == method), key=lambda one: one.key(LOSS, "tokens"))
        assert {rate for name, rate in bench.timed if name == method} == {best.knobs["rate"]}, "at the settings of its best trial"
    for one in standing.trials:
        assert [point[1] for point in one.points] == [i * bench.steps[one.method] for i in range(1, 5)]
    bench.steps, bench.timed = {"adamw": 5.0, "lion": 4.0}, []
    again = compare(planned, store, executor=bench, quiet=True)
    assert again.paces["adamw"].seconds == 5.0 and again.told()["seconds_per_step"]["lion"] == {"seconds": 4.0, "least": 4.0, "most": 4.0}


def test_a_method_without_a_finished_trial_is_not_timed(store, bench) -> None:
    planned = contest("optim", ["adamw", "lion"], LOSS, trials=2)
    for body in planned.bodies["lion"]:
        body["rate"] = 2 * bench.breaks
    standing = compare(planned, store, executor=bench, quiet=True)
    assert set(standing.paces) == {"adamw"} and standing.ranking[-1]["method"] == "lion" and standing.ranking[-1]["failed"] == 2


@pytest.fixture
def clock(bench, monkeypatch) -> list[float]:
    """A time that stands still but for ten seconds a round; timing is taken to cost five."""
    now = [0.0]
    monkeypatch.setattr(subject.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(subject.timing, "forecast", lambda took, steps: 5.0)
    real = bench.map

    def slow(*given):
        now[0] += 10 * (given[0] is attempt)
        return real(*given)

    bench.map = slow
    return now


def test_when_the_budget_ends_all_have_had_equally_many(store, bench, clock) -> None:
    planned = contest("optim", ["adamw", "lion"], LOSS, trials=5)
    standing = compare(planned, store, budget=35, executor=bench, quiet=True)
    assert bench.batches == [2, 2, 2] and standing.rounds == 3 and standing.why == "the budget is spent"
    assert {row["trials"] for row in standing.ranking} == {3}


@pytest.mark.parametrize(("budget", "rounds"), [(1, 1), (24, 1), (25, 2)])
def test_the_first_round_always_runs_and_timing_is_left_room_for(store, bench, clock, budget, rounds) -> None:
    planned = contest("optim", ["adamw", "lion"], LOSS, trials=5)
    assert compare(planned, store, budget=budget, executor=bench, quiet=True).rounds == rounds


@pytest.mark.parametrize(("workers", "rounds"), [(2, 2), (1, 1)])
def test_a_round_that_the_store_has_is_as_long_as_it_was_when_computed(store, bench, monkeypatch, workers, rounds) -> None:
    """No time passes, as where all is found; the cards say that trials took 100 s each."""
    monkeypatch.setattr(subject.time, "monotonic", lambda: 0.0)
    monkeypatch.setattr(subject.timing, "forecast", lambda took, steps: 0.0)
    bench.cost, bench.workers = 100.0, workers
    planned = contest("optim", ["adamw", "lion"], LOSS, trials=2)
    assert compare(planned, store, budget=150, executor=bench, quiet=True).rounds == rounds
    bench.timed.clear()
    assert compare(planned, store, budget=99, executor=bench, quiet=True).rounds == 1


def test_the_length_of_a_round() -> None:
    assert [length([4, 3, 2, 2], workers) for workers in (1, 2, 3, 9)] == [11, 6, 4, 4]
    assert length([], 2) == 0


def test_methods_that_share_a_knob_get_the_same_values() -> None:
    one = contest("schedule", ["constant", "wsd"], LOSS, trials=4)
    rates = {method: [drawn["rate"] for drawn in one.drawn[method]] for method in one.methods}
    assert rates["constant"] == rates["wsd"] and len(set(rates["wsd"])) == 4
    assert contest("schedule", ["wsd"], LOSS, trials=9).drawn["wsd"][:4] == one.drawn["wsd"]
    assert contest("schedule", ["wsd"], LOSS, trials=4, seed=1).drawn["wsd"] != one.drawn["wsd"]


def test_what_is_set_is_not_searched_and_the_smallest_space_is_the_cap_of_all() -> None:
    one = contest("optim", ["adamw", "lion"], LOSS, trials=4, changes=["rate=0.004", "adamw.beta2=0.97"])
    assert one.drawn["adamw"] == [{}] and all("rate" not in drawn for drawn in one.drawn["lion"])
    body = one.recipe("adamw", 0)["steps"]["trial"]
    assert body["rate"] == 0.004 and body["optimizer"] == {"adamw": {"beta2": 0.97}}
    assert len(one.drawn["lion"]) == len(one.bodies["lion"]) == one.each == 1 and one.trials == 4
    assert one.capped == "1 of each method and not 4: the space of adamw has no more points" and "2 trials (1 each)" in results.settled(one)
    three = contest("optim", ["adamw", "galore"], LOSS, trials=8, changes=["rate=0.004"])
    assert {method: len(drawn) for method, drawn in three.drawn.items()} == {"adamw": 3, "galore": 3} and three.scarce == ("adamw",)
    assert three.drawn["galore"] == contest("optim", ["galore"], LOSS, trials=8, changes=["rate=0.004"]).drawn["galore"][:3]
    for enough in (contest("optim", ["adamw", "galore"], LOSS, trials=3, changes=["rate=0.004"]), contest("compress", ["rtn"], LOSS, 1)):
        assert not enough.capped


def test_a_cap_is_told(store, bench, capsys) -> None:
    planned = contest("optim", ["adamw", "lion"], LOSS, trials=4, changes=["adamw.beta2=0.97", "rate=0.004"])
    standing = compare(planned, store, executor=bench)
    told = standing.told()
    assert (told["trials"], told["trials_each"], told["capped"]) == (4, 1, planned.capped) and len(told["runs"]) == 2
    assert planned.capped in capsys.readouterr().err


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
    bench.breaks, bench.timed = 0.0, []
    with pytest.raises(CheckFailed, match=r"no trial came to an end.*not finite"):
        compare(contest("optim", ["adamw"], LOSS, trials=2), store, executor=bench, quiet=True)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"seam": "optm"}, "no seam 'optm'.*optim"),
        ({"seam": "task"}, "no part of pretraining"),
        ({"methods": ["adam"]}, "did you mean adamw"),
        ({"methods": ["adamw", "adamw"]}, "each once"),
        ({"methods": []}, "name the methods"),
        ({"trials": 0}, "from 1 to 1000"),
        ({"trials": 1_000_000}, "from 1 to 1000"),
        ({"changes": ["tokens=0"]}, "tokens must be at least 1"),
        ({"changes": ["rate=-1"]}, "rate"),
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


def test_what_is_left_behind(store, bench) -> None:
    planned = contest("optim", ["adamw", "lion"], LOSS, trials=2, changes=["width=32", "heads=2"])
    standing = compare(planned, store, executor=bench, quiet=True)
    told, picture, path = results.publish(standing, store)
    found = json.loads(told.read_text())
    assert found["ranking"][0]["method"] == standing.ranking[0]["method"] and len(found["runs"]) == 4
    low, high = catalog.entries("optim")["lion"].class_vars["space"]["rate"]
    assert found["spaces"]["lion"]["rate"] == {"low": low, "high": high}
    drawn = picture.read_text()
    assert drawn.startswith("<svg") and 'xmlns="http://www.w3.org/2000/svg"' in drawn and ">2 target<" in drawn
    assert {one.artifact for one in standing.trials} <= store.kept(), "gc keeps the trials"
    best = standing.ranking[0]["best"]
    lm = read(path).steps["lm"]
    assert list(lm.knobs["optimizer"]) == [best["method"]] and lm.knobs["rate"] == best["knobs"]["rate"] and lm.knobs["width"] == 32
    assert yaml.safe_load(path.read_text())["steps"]["tokens"]["corpus"] == "$corpus"


def test_other_ways_of_comparing_have_names_of_their_own() -> None:
    names = [
        contest("optim", ["adamw"], LOSS, trials=1, **more).name for more in ({}, {"seed": 1}, {"changes": ["width=32"]}, {"by": "tokens"})
    ]
    assert all(a != b for a, b in pairwise(sorted(names)))
    assert contest("optim", ["adamw"], LOSS, trials=3).name == names[0]
