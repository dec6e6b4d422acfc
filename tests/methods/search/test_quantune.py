"""The search finds the best configuration of a known landscape sooner than chance, and goes on from any history."""

from __future__ import annotations

import json
import math
import statistics

import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.search.quantune import Quantune
from bloomery.methods.search.random import Random
from bloomery.seams import Rng

SPACE = {"bits": [2, 3, 4, 8], "group": [16, 32, 64, 128], "symmetric": [True, False], "search": [0, 10, 20]}


def nats(trial: dict) -> float:
    """A landscape with an interaction: zeros help where bits are few."""
    lost = {2: 0.9, 3: 0.3, 4: 0.1, 8: 0.09}[trial["bits"]] * (1 + 0.2 * math.log2(trial["group"] / 16)) - 0.002 * trial["search"]
    return lost - (0.3 if trial["bits"] == 2 and not trial["symmetric"] else 0.0)


def ran(method, rng: Rng, measure=nats) -> list[tuple[dict, dict]]:
    history: list = []
    while proposed := method.propose(history, rng):
        history += [(json.loads(json.dumps(trial)), {"heldout_nats": measure(trial)}) for trial in proposed]
    return history


def until(history: list, within: float = 0.004) -> int:
    """Trials until one is near the best of all."""
    best = min(nats(dict(zip(SPACE, values, strict=True))) for values in Quantune(space=SPACE).configurations())
    return next((i for i, (_, found) in enumerate(history, 1) if found["heldout_nats"] <= best + within), len(history) + 1)


def test_no_configuration_is_tried_twice_and_a_small_space_is_tried_whole():
    small = {"a": [1, 2], "b": ["x", "y", "z"]}
    history = ran(Quantune(space=small, trials=50, begin=2, trees=5), Rng((1,)), lambda trial: trial["a"] + (trial["b"] == "x"))
    tried = [tuple(trial.values()) for trial, _ in history]
    assert len(tried) == 6 == len(set(tried))


def test_a_history_cut_anywhere_goes_on_alike():
    method, rng = Quantune(space=SPACE, trials=12), Rng((3,))
    whole = ran(method, rng)
    assert len(whole) == 12
    for cut in (0, 3, 6, 9):
        assert dict(method.propose(whole[:cut], rng)[0]) == whole[cut][0]


def test_it_needs_fewer_trials_than_chance():
    ours = [until(ran(Quantune(space=SPACE, trials=20), Rng((seed,)))) for seed in range(4)]
    theirs = [until(ran(Random(space=SPACE, trials=96), Rng((seed,)))) for seed in range(40)]
    assert statistics.mean(ours) < 0.7 * statistics.mean(theirs)


def test_failed_trials_count_as_the_worst_and_nonsense_is_refused():
    def failing(trial: dict) -> float:
        return math.nan if trial["bits"] == 2 else nats(trial)

    late = ran(Quantune(space=SPACE, trials=20, explore=0.0), Rng((0,)), failing)[8:]
    assert sum(trial["bits"] == 2 for trial, _ in late) < 3
    with pytest.raises(BadInput, match="none of 6 trials"):
        ran(Quantune(space=SPACE), Rng((0,)), lambda trial: math.nan)
    for knobs, said in (
        ({"begin": 1}, "begin must"), ({"space": {"rate": (1e-3, 1e-2)}}, "list of choices"),
        ({"space": {name: list(range(20)) for name in "abcd"}}, "at most 100000"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            Quantune(**knobs)
