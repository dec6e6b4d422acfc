from __future__ import annotations

import math

import numpy as np
import pytest

from bloomery.num.ranks import auc, auc_change, auc_interval
from bloomery.seams import Rng


def slow(scores, kinds) -> float:
    pairs = [(a > b) + 0.5 * (a == b) for a, x in zip(scores, kinds, strict=True) if x for b, y in zip(scores, kinds, strict=True) if not y]
    return sum(pairs) / len(pairs)


def test_exact_against_all_pairs_with_ties():
    gen = np.random.default_rng(0)
    for _ in range(30):
        scores, kinds = gen.integers(0, 6, 25), gen.random(25) < 0.5
        assert auc(scores, kinds) == pytest.approx(slow(scores, kinds))
        weights = gen.integers(0, 4, 25)
        assert auc(scores, kinds, weights) == pytest.approx(slow(np.repeat(scores, weights), np.repeat(kinds, weights)))
    assert auc([1, 2], [True, True]) != auc([1, 2], [True, True])  # nan


def test_the_interval_holds_the_truth_and_widens_with_groups():
    gen, held = np.random.default_rng(1), 0
    for trial in range(60):
        kinds = np.arange(60) % 2 == 0
        scores = gen.normal(size=60) + kinds
        one = auc_interval(scores, kinds, list(map(str, range(60))), Rng((trial,)), draws=200)
        held += one.low <= 0.7602 <= one.high  # P(N(1, 2) > 0)
    assert held >= 50
    scores = np.repeat(gen.normal(size=20), 5) + (np.arange(100) < 50)
    alone, joined = (auc_interval(scores, np.arange(100) < 50, [str(i // n) for i in range(100)], Rng((0,))) for n in (1, 5))
    assert joined.value == alone.value and joined.high - joined.low > alone.high - alone.low
    assert auc_interval(scores, np.arange(100) < 50, ["a"] * 100, Rng((0,))).groups == 2


def test_one_kind_alone_is_nan_and_nothing_is_an_error():
    found = auc_interval([1.0, 2.0], [True, True], ["a", "b"], Rng((0,)))
    assert math.isnan(found.value) and math.isnan(found.low)
    with pytest.raises(ValueError, match="at least one"):
        auc_interval([], [], [], Rng((0,)))


def test_the_change_of_an_area_is_drawn_together():
    gen, kinds, groups = np.random.default_rng(5), np.arange(80) % 2 == 0, [str(i) for i in range(80)]
    base = gen.normal(size=80) + kinds
    near = auc_change(base + 0.01 * gen.normal(size=80), base, kinds, groups, Rng((0,)))
    alone = auc_interval(base, kinds, groups, Rng((0,)))
    assert abs(near.value) < 0.02 and near.high - near.low < 0.2 * (alone.high - alone.low), "what is hard for both cancels"
    worse = auc_change(base, gen.normal(size=80), kinds, groups, Rng((0,)))
    assert worse.value == pytest.approx(auc(base, kinds) - 0.5, abs=0.2) and worse.low > 0
    assert np.isnan(auc_change([1, 2], [2, 1], [True, False], ["a", "b"], Rng((0,))).low)
