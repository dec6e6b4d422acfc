"""Spaces: what they take, what they give, and that the even spread is even."""

from __future__ import annotations

import math
import statistics

import pytest

from bloomery.num import spaces
from bloomery.seams import Rng

SPACE = {"rate": (1e-4, 1e-2), "rank": (4, 64), "kind": ["a", "b", "c"]}


def test_samples_lie_inside_and_are_uniform_in_the_logarithm() -> None:
    space = spaces.read(SPACE)
    drawn = [spaces.sample(space, i, Rng((0,))) for i in range(600)]
    shares = sorted(math.log(one["rate"] / 1e-4) / math.log(100) for one in drawn)
    assert shares[0] >= 0 and shares[-1] <= 1
    assert max(abs(share - (i + 0.5) / 600) for i, share in enumerate(shares)) < 1.63 / math.sqrt(600)  # Kolmogorov-Smirnov at 1 %
    assert all(isinstance(one["rank"], int) and 4 <= one["rank"] <= 64 for one in drawn)
    assert all(150 < sum(one["kind"] == kind for one in drawn) < 250 for kind in "abc")


def test_a_trial_depends_on_its_place_and_key_alone() -> None:
    space = spaces.read(SPACE)
    for even in (False, True):
        assert spaces.sample(space, 5, Rng((1,)), even) == spaces.sample(space, 5, Rng((1,)), even)
        assert spaces.sample(space, 5, Rng((1,)), even) != spaces.sample(space, 5, Rng((2,)), even)
        assert spaces.sample(space, 5, Rng((1,)), even) != spaces.sample(space, 4, Rng((1,)), even)


def test_the_even_spread_leaves_smaller_gaps() -> None:
    space = spaces.read({"rate": (1.0, math.e)})

    def widest(even: bool, seed: int) -> float:
        logs = sorted(math.log(spaces.sample(space, i, Rng((seed,)), even)["rate"]) for i in range(8))
        return max(b - a for a, b in zip(logs, [*logs[1:], logs[0] + 1], strict=True))

    even, plain = ([widest(kind, seed) for seed in range(20)] for kind in (True, False))
    assert max(even) <= 0.126  # eight points of the base-2 sequence are eighths apart, but for rounding to four digits
    assert statistics.median(plain) > 0.2


def test_a_perturbed_value_stays_inside_and_moves_by_a_factor() -> None:
    space = spaces.read({"rate": (1e-4, 1e-2), "kind": ["a", "b", "c"]})
    seen = [spaces.perturb(space, {"rate": 1e-3, "kind": "b"}, Rng((i,)), (0.8, 1.2), 0.0) for i in range(40)]
    assert {one["rate"] for one in seen} == {8e-4, 1.2e-3} and {one["kind"] for one in seen} == {"a", "c"}
    edge = [spaces.perturb(space, {"rate": 1e-2, "kind": "c"}, Rng((i,)), (0.8, 1.2), 0.0) for i in range(40)]
    assert {one["rate"] for one in edge} == {8e-3, 1e-2} and {one["kind"] for one in edge} == {"b", "c"}
    anew = {spaces.perturb(space, {"rate": 1e-3, "kind": "b"}, Rng((i,)), (0.8, 1.2), 1.0)["rate"] for i in range(40)}
    assert len(anew) > 30


@pytest.mark.parametrize("entry", [(1, 0.5), (0, 1), (1,), [], 3, "ab", (True, 2), {"low": 1}, (1.0, math.inf), {}])
def test_entries_that_are_no_space(entry) -> None:
    with pytest.raises(ValueError, match="rate:"):
        spaces.read({"rate": entry})


def test_a_range_written_as_text_has_it() -> None:
    assert spaces.read({"rate": {"low": 1e-3, "high": 1e-2}}) == spaces.read({"rate": (1e-3, 1e-2)})


def test_figures_of_failed_trials_are_infinite() -> None:
    assert spaces.figure({"a": 1.5}, "a") == 1.5 and spaces.figure({"a": 1.5}, "-a") == -1.5
    for figures in ({}, {"a": math.nan}, {"a": math.inf}, {"a": None}):
        assert spaces.figure(figures, "a") == math.inf and spaces.figure(figures, "-a") == math.inf


def test_small_whole_numbers_move_too() -> None:
    space = spaces.read({"layers": (1, 8)})
    for value, wanted in ((1, {1, 2}), (2, {1, 3}), (5, {4, 6}), (8, {6, 8})):  # 1 and 8 are the ends
        assert {spaces.perturb(space, {"layers": value}, Rng((i,)), (0.8, 1.2), 0.0)["layers"] for i in range(40)} == wanted
    assert {spaces.perturb(space, {"layers": 2}, Rng((i,)), (1.0,), 0.0)["layers"] for i in range(5)} == {2}
