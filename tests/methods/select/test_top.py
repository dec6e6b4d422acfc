from __future__ import annotations

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.select.top import Top
from bloomery.seams import Rng

SIZES = np.array([5, 50, 7, 30, 1, 12, 90, 3])
VALUES = np.array([0.1, 0.9, 0.8, 0.7, -1, 0.2, 0.95, 0.3])


def test_exact_the_order_by_hand():
    chosen = Top("gain").weigh({"bytes": SIZES, "gain": VALUES}, 60, Rng((0,)))
    assert chosen.tolist() == [0, 1, 1, 0, 0, 0, 0, 1]  # 90 does not fit, then 50, 7, not 30, 3
    lowest = Top("gain", lowest=True).weigh({"bytes": SIZES, "gain": VALUES}, 20, Rng((0,)))
    assert lowest.tolist() == [1, 0, 0, 0, 1, 1, 0, 0]


def test_property_what_is_left_out_is_lower_or_does_not_fit():
    for seed in range(50):
        values = np.random.default_rng(seed).integers(0, 4, 8)
        chosen = Top("v").weigh({"bytes": np.ones(8), "v": values}, 5, Rng((seed,))) > 0
        assert chosen.sum() == 5 and values[chosen].min() >= values[~chosen].max()


def test_what_has_no_number_comes_last():
    for lowest in (False, True):
        found = Top("v", lowest).weigh({"bytes": np.ones(3), "v": np.array([np.nan, 1.0, 2.0])}, 2, Rng((0,)))
        assert found.tolist() == [0, 1, 1]


def test_an_unknown_column_is_named():
    with pytest.raises(BadInput, match=r"miniplm\.gian.*did you mean miniplm\.gain"):
        Top("miniplm.gian").weigh({"bytes": SIZES, "miniplm.gain": VALUES}, 5, Rng((0,)))
