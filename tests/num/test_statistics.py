"""Clustered bootstrap intervals: closed forms, coverage of the plain case, seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bloomery.num.statistics import bootstrap, mean, paired, ratio, share, student, t_below, t_quantile, wilson
from bloomery.seams import Rng

RNG = Rng((1, "statistics"))


def test_value_is_the_ratio_of_sums() -> None:
    found = ratio([10, 20, 30], [1, 2, 7], ["a", "b", "c"], RNG)
    assert found.value == 6
    assert (found.n, found.groups) == (3, 3)
    assert found.low <= found.value <= found.high


def test_two_groups_give_the_quantiles_of_the_binomial() -> None:
    found = mean([0.0, 1.0], ["a", "b"], RNG)  # a draw's mean is 0, 1/2 or 1 with shares 1/4, 1/2, 1/4
    assert (found.low, found.value, found.high) == (0, 0.5, 1)
    narrow = mean([0.0, 1.0], ["a", "b"], RNG, level=0.4)
    assert (narrow.low, narrow.high) == (0.5, 0.5)


def test_equal_items_have_no_spread() -> None:
    found = ratio([2.0] * 9, [4.0] * 9, list("aabbccdde"), RNG)
    assert (found.low, found.value, found.high) == (0.5, 0.5, 0.5)


def test_interval_has_the_width_that_theory_says() -> None:
    values = np.random.default_rng(0).normal(size=4000)
    found = mean(values, [str(i) for i in range(4000)], RNG, draws=8000)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * values.std() / math.sqrt(4000), rel=0.05)


def test_copies_inside_a_group_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(1).normal(size=50)
    groups = [str(i) for i in range(50)]
    once, often = mean(values, groups, RNG), mean(np.repeat(values, 20), np.repeat(groups, 20), RNG)
    assert (often.low, often.high) == pytest.approx((once.low, once.high), rel=1e-12)


def test_one_group_tells_nothing_of_the_spread() -> None:
    found = mean([1.0, 2.0], ["a", "a"], RNG)
    assert found.value == 1.5
    assert math.isnan(found.low) and math.isnan(found.high)


def test_same_key_same_numbers_and_order_of_items_does_not_matter() -> None:
    values, groups = np.arange(30.0), [str(i % 7) for i in range(30)]
    assert mean(values, groups, RNG) == mean(values[::-1], groups[::-1], RNG)
    assert mean(values, groups, RNG).low != mean(values, groups, RNG.child("other")).low


def test_paired_difference_cancels_what_is_hard_for_both() -> None:
    hard = np.random.default_rng(2).uniform(1, 100, 60)
    groups = [str(i) for i in range(60)]
    found = paired(hard - 1, hard, np.ones(60), groups, RNG)
    assert (found.low, found.value, found.high) == pytest.approx((-1, -1, -1))
    assert found.named("gap") == {"gap": found.value, "gap.low": found.low, "gap.high": found.high, "gap.n": 60}


@pytest.mark.parametrize(
    "call",
    [
        lambda: mean([], [], RNG),
        lambda: ratio([1], [0], ["a"], RNG),
        lambda: mean([1.0], ["a", "b"], RNG),
        lambda: mean([1.0, 2.0], ["a", "b"], RNG, level=1.0),
    ],
)
def test_wrong_input_is_refused(call) -> None:
    with pytest.raises(ValueError):
        call()


# Student's t, two-sided 95% and one-sided 99.9%, from the tables of Fisher & Yates 1963.
KNOWN_T = {1: (12.706, 318.31), 2: (4.303, 22.327), 3: (3.182, 10.215), 4: (2.776, 7.173), 5: (2.571, 5.893), 9: (2.262, 4.297),
           10: (2.228, 4.144), 30: (2.042, 3.385), 120: (1.980, 3.160)}  # fmt: skip


@pytest.mark.parametrize(("freedom", "known"), KNOWN_T.items())
def test_t_quantiles_are_those_of_the_tables(freedom: int, known: tuple[float, float]) -> None:
    assert t_quantile(0.975, freedom) == pytest.approx(known[0], abs=6e-4)
    assert t_quantile(0.999, freedom) == pytest.approx(known[1], rel=2e-4)
    assert t_quantile(0.025, freedom) == -t_quantile(0.975, freedom)
    assert t_below(t_quantile(0.8, freedom), freedom) == pytest.approx(0.8, abs=1e-12)


def test_the_distribution_of_one_degree_of_freedom_is_cauchy_and_of_two_has_a_closed_form() -> None:
    for t in (-7.0, -0.3, 0.0, 1.0, 40.0):
        assert t_below(t, 1) == pytest.approx(0.5 + math.atan(t) / math.pi, abs=1e-12)
        assert t_below(t, 2) == pytest.approx(0.5 + t / (2 * math.sqrt(2 + t * t)), abs=1e-12)


def test_student_interval_in_closed_form() -> None:
    found = student([1.0, 2.0, 3.0])
    half = 4.302652729749464 / math.sqrt(3)
    assert (found.value, found.n) == (2, 3)
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))
    assert student([5, 5, 5]) == student([5, 5, 5]) and (student([5, 5, 5]).low, student([5, 5, 5]).high) == (5, 5)
    assert math.isnan(student([5]).low) and math.isnan(student([1, math.nan]).high)
    with pytest.raises(ValueError, match="at least one value"):
        student([])


@pytest.mark.parametrize("count", [2, 3, 5])
def test_student_interval_covers_as_often_as_it_says(count: int) -> None:
    drawn = np.random.default_rng(count).normal(3.0, 2.0, size=(2000, count))
    covered = sum(found.low <= 3.0 <= found.high for found in map(student, drawn.tolist()))
    assert abs(covered / 2000 - 0.95) < 0.02  # four standard errors of a share of 0.95 over 2000 draws


def test_the_bootstrap_of_any_statistic_is_that_of_means_and_takes_groups_whole() -> None:
    draw = np.random.default_rng(0)
    values, groups = draw.normal(size=60), [f"g{i % 20}" for i in range(60)]
    known = mean(values, groups, Rng((1,)))
    found = bootstrap(lambda chosen: float(np.mean(values[list(chosen)])), groups, Rng((2,)), draws=2000)
    assert (found.value, found.n, found.groups) == (pytest.approx(known.value), 60, 20)
    assert found.low == pytest.approx(known.low, abs=0.06) and found.high == pytest.approx(known.high, abs=0.06)
    seen: list[list[int]] = []
    bootstrap(lambda chosen: float(seen.append(sorted(chosen)) or 0.0), ["a", "b", "a"], Rng((3,)), draws=40)
    assert {tuple(one) for one in seen} == {(0, 1, 2), (0, 0, 2, 2), (1, 1)}


def test_the_bootstrap_passes_over_draws_that_say_nothing_and_needs_two_groups() -> None:
    found = bootstrap(lambda chosen: float("nan") if 0 not in chosen else 1.0, ["a", "b", "c"], Rng((1,)))
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    assert math.isnan(bootstrap(lambda chosen: 1.0, ["a", "a"], Rng((1,))).low)
    with pytest.raises(ValueError, match="at least one item"):
        bootstrap(lambda chosen: 1.0, [], Rng((1,)))


def test_wilson_by_hand_and_at_the_ends() -> None:
    found = wilson([True] * 4 + [False] * 6, list("abcdefghij"))
    assert (found.value, found.n, found.groups) == (0.4, 10, 10)
    assert (found.low, found.high) == pytest.approx((0.16818, 0.68733), abs=1e-4)
    none = wilson([False] * 29, [str(i) for i in range(29)])
    assert (none.low, none.high) == (0.0, pytest.approx(1.959964**2 / (29 + 1.959964**2)))
    few = wilson([False] * 29, ["a"] * 28 + ["b"])
    assert few.high > none.high, "items of one group are one trial"
    with pytest.raises(ValueError, match="at least one"):
        wilson([], [])


def test_wilson_covers_as_often_as_it_says() -> None:
    gen, inside = np.random.default_rng(0), 0
    for _ in range(400):
        found = wilson((gen.random(40) < 0.05).tolist(), [str(i) for i in range(40)])
        inside += found.low <= 0.05 <= found.high
    assert inside / 400 > 0.9


def test_a_share_of_none_or_all_is_not_certain():
    groups = [str(i) for i in range(27)]
    none, every, some = (share(values, groups, RNG) for values in ([0.0] * 27, [1.0] * 27, [1.0] + [0.0] * 26))
    assert (none.value, none.low) == (0, 0) and none.high == pytest.approx(0.1246, abs=1e-3), "Wilson by hand: z^2 / (n + z^2)"
    assert (every.value, every.high) == (1, 1) and every.low == pytest.approx(1 - none.high)
    assert some == mean([1.0] + [0.0] * 26, groups, RNG), "elsewhere it is the bootstrap"
    assert math.isnan(share([1.0, 1.0], ["a", "a"], RNG).low), "one group says nothing of others"
    assert share([0.0] * 9, ["a", "b", "c"] * 3, RNG).high > share([0.0] * 9, groups[:9], RNG).high, "items of a group are not independent"
