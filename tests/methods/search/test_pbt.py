"""Population based training on a task whose best rate falls: who goes on from whom, and that it beats keeping the first rate."""

from __future__ import annotations

import math
import statistics

import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.search.pbt import Pbt
from bloomery.methods.search.random import Random
from bloomery.seams import Rng

RNG = Rng((0, "search"))


def play(method, rng, run):
    """The history of a whole search whose trials `run(trial, parent figures)` answers."""
    history = []
    while trials := method.propose(history, rng):
        for trial in trials:
            history.append((trial, run(trial, history[trial["parent"]][1] if "parent" in trial else None)))
    return history


def distance(trial, parent):
    """Noisy descent on a parabola: high rates go far, low ones end near; each phase is 5 steps."""
    x = parent["heldout_nats"] if parent else 100.0
    for _ in range(5):
        x = (1 - trial["rate"]) ** 2 * x + trial["rate"] ** 2
    return {"heldout_nats": x}


def test_the_worst_copy_the_best_and_the_others_go_on() -> None:
    method = Pbt({"rate": (0.001, 0.5)}, population=5, phases=2, share=0.2)
    first = method.propose([], RNG)
    history = [(trial, {"heldout_nats": loss}) for trial, loss in zip(first, (3.0, 1.0, 5.0, 2.0, 4.0), strict=True)]
    second = method.propose(history, RNG)
    assert [trial["parent"] for trial in second] == [0, 1, 1, 3, 4] and {trial["phase"] for trial in second} == {1}
    for member in (0, 1, 3, 4):
        assert second[member]["rate"] == first[member]["rate"]
    assert second[2]["rate"] in (float(f"{first[1]['rate'] * factor:.4g}") for factor in (0.8, 1.2))
    assert method.propose(history + [(trial, {"heldout_nats": 1.0}) for trial in second], RNG) == []


def test_a_member_that_failed_is_replaced_and_none_left_is_said() -> None:
    method = Pbt(population=4, phases=2, share=0.25)
    first = method.propose([], RNG)
    failed = [{}, {"heldout_nats": math.nan}, {"heldout_nats": 2.0}, {"heldout_nats": 3.0}]
    second = method.propose(list(zip(first, failed, strict=True)), RNG)
    assert [trial["parent"] for trial in second] == [2, 2, 2, 3]
    with pytest.raises(BadInput, match="every member"):
        method.propose([(trial, {}) for trial in first], RNG)


def test_a_search_cut_anywhere_goes_on_with_the_same_trials() -> None:
    method = Pbt({"rate": (0.001, 0.5)}, population=4, phases=3)
    whole = play(method, RNG, distance)
    for done in range(len(whole) + 1):
        left = method.propose(whole[:done], RNG)
        assert left == [trial for trial, _ in whole[done : done + len(left)]]
        assert bool(left) == (done < len(whole))


def test_it_beats_random_search_of_the_same_work_and_its_rates_fall() -> None:
    space = {"rate": (0.003, 0.5)}
    gains, falls = [], []
    for seed in range(15):
        rng = Rng((seed,))
        history = play(Pbt(space, population=6, phases=12), rng, distance)
        best = min(figures["heldout_nats"] for _, figures in history[-6:])
        at = min(range(len(history) - 6, len(history)), key=lambda i: history[i][1]["heldout_nats"])
        lineage = [at]
        while "parent" in history[lineage[-1]][0]:
            lineage.append(history[lineage[-1]][0]["parent"])
        rates = [history[i][0]["rate"] for i in reversed(lineage)]
        alone = []
        for trial in Random(space, 6).propose([], rng):
            figures = None
            for _ in range(12):
                figures = distance(trial, figures)
            alone.append(figures["heldout_nats"])
        gains.append(min(alone) / best)
        falls.append(rates[-1] / rates[0])
    assert statistics.median(gains) > 1.3 and statistics.median(falls) < 0.5


def test_knobs_out_of_range() -> None:
    for knobs in ({"population": 1}, {"share": 0.6}, {"factors": ()}, {"resample": 2.0}, {"phases": 0}):
        with pytest.raises(ValueError, match="must"):
            Pbt(**knobs)
