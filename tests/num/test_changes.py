"""Differences of means over the same items."""

import math

import pytest

from bloomery.num.changes import mean_change
from bloomery.num.statistics import paired, wilson
from bloomery.seams import Rng

RNG = Rng((3,))
GROUPS = [f"g{n // 2}" for n in range(40)]


def test_it_is_the_paired_difference_where_any_item_differs():
    mine, theirs = [float(n % 3 == 0) for n in range(40)], [float(n % 4 == 0) for n in range(40)]
    assert mean_change(mine, theirs, GROUPS, RNG) == paired(mine, theirs, [1.0] * 40, GROUPS, RNG)


@pytest.mark.parametrize("right", [0.0, 1.0, None])
def test_no_difference_of_verdicts_has_a_width(right):
    mine = [float(n % 2) for n in range(40)] if right is None else [right] * 40
    found = mean_change(mine, mine, GROUPS, RNG)
    assert found.value == 0 and found.groups == 20 and found.n == 40
    assert found.high == -found.low == wilson([False] * 20, GROUPS[::2]).high == pytest.approx(0.161, abs=1e-3)


def test_scores_that_are_no_verdicts_and_a_lone_group_stay_as_they_are():
    nats = [1.5 * n for n in range(40)]
    assert mean_change(nats, nats, GROUPS, RNG).high == 0
    assert math.isnan(mean_change([1.0] * 4, [1.0] * 4, ["one"] * 4, RNG).high)
    with pytest.raises(ValueError):
        mean_change([], [], [], RNG)
