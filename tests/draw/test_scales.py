"""Ranges and ticks."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.draw.scales import Scale, labels, spread, ticks

finite = st.floats(-1e12, 1e12, allow_nan=False)


@given(finite, finite, st.integers(2, 10))
@settings(max_examples=200, deadline=None)
def test_ticks_are_round_ascending_and_inside(a, b, about):
    low, high = min(a, b), max(a, b)
    if high - low < 1e-9 * max(1, abs(high), abs(low)):
        return
    found = ticks(low, high, about)
    room = (high - low) * 1e-6
    assert all(x < y for x, y in pairwise(found))
    assert all(low - room <= t <= high + room for t in found)
    assert len(found) <= 2 * about + 2
    if max(abs(low), abs(high)) < 1e4 * (high - low):
        assert len(set(labels(found))) == len(found), found


@given(st.floats(1e-9, 1e9), st.floats(1.01, 1e9), st.integers(2, 8))
@settings(max_examples=200, deadline=None)
def test_log_ticks_are_positive_ascending_and_inside(low, factor, about):
    found = Scale(low, low * factor, 0, 100, log=True).ticks(about)
    assert all(x < y for x, y in pairwise(found))
    assert all(low * 0.999 <= t <= low * factor * 1.001 for t in found)


@pytest.mark.parametrize(
    "low, high, about, expected",
    [(0, 10, 5, [0, 2, 4, 6, 8, 10]), (0, 1, 2, [0, 0.5, 1]), (-1, 1, 4, [-1, -0.5, 0, 0.5, 1]), (3, 900, 4, [200, 400, 600, 800])],
)
def test_known_ticks(low, high, about, expected):
    assert ticks(low, high, about) == expected


def test_scale_maps_and_holds_at_the_border():
    up = Scale(0, 10, 100, 0)
    assert (up(0), up(5), up(10), up(99), up(-1)) == (100, 50, 0, 0, 100)
    log = Scale(1, 100, 0, 10, log=True)
    assert log(10) == pytest.approx(5) and log(0) == 0


def test_spread():
    assert spread([]) == (0.0, 1.0) and spread([math.nan], log=True) == (1.0, 10.0)
    low, high = spread([3.0])
    assert low < 3 < high
    assert spread([2, 4], zero=True)[0] == 0
    low, high = spread([0, -1, 0.1, 10], log=True)
    assert 0 < low <= 0.1 and high >= 10


def test_labels():
    assert (
        labels([0, 0.5, 1]) == ["0", "0.5", "1.0"]
        and labels([20000, 40000]) == ["20\u202fk", "40\u202fk"]
        and labels([-1.0, 0.0]) == ["−1", "0"]
    )
    assert labels([1, 10, 100]) == ["1", "10", "100"] and labels([]) == []
