"""Multiscale diversity entropy."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bloomery.num.diversity import diversity_entropy, spread_over_scales


def test_exact_by_hand():
    """The example of the published program: cosines of 0.605, 0.699, 0.924 and 0.931 fall into two of ten intervals, two in each."""
    values = [1, 2, 13, 7, 9, 5, 4]
    assert diversity_entropy(values, 3, 10) == pytest.approx(math.log(2) / math.log(10))
    assert spread_over_scales(values, 3, 10, 3) == pytest.approx(np.std([math.log10(2), 0, 0], ddof=1))


def test_what_repeats_has_none_and_too_few_numbers_have_no_value():
    assert diversity_entropy([-2.0] * 50, 3, 100) == 0 and spread_over_scales([-2.0] * 50, 3, 100, 5) == 0
    assert math.isnan(diversity_entropy([1, 2], 3, 10)) and math.isnan(diversity_entropy([], 3, 10))
    assert math.isnan(spread_over_scales([1, 2, 3, 4, 5], 3, 10, 4))
    noise = np.random.default_rng(0).normal(size=200)
    assert 0 < diversity_entropy(noise, 3, 50) <= 1
