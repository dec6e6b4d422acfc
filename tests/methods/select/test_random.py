from __future__ import annotations

import numpy as np

from bloomery.methods.select.random import Random
from bloomery.seams import Rng

SIZES = np.array([5, 50, 7, 30, 1, 12, 90, 3])


def test_exact_everything_or_nothing():
    assert Random().weigh({"bytes": SIZES}, SIZES.sum(), Rng((0,))).tolist() == [1.0] * 8
    assert Random().weigh({"bytes": SIZES}, 0.5, Rng((0,))).sum() == 0


def test_property_budget_is_kept_and_nearly_filled():
    drawn = []
    for seed in range(200):
        weights = Random().weigh({"bytes": SIZES}, 60, Rng((seed,)))
        assert np.array_equal(weights, Random().weigh({"bytes": SIZES}, 60, Rng((seed,))))
        held = SIZES[weights > 0].sum()
        assert held <= 60 and (SIZES[weights == 0] > 60 - held).all()
        drawn.append(weights)
    assert (np.mean(drawn, 0)[SIZES <= 60] > 0.2).all() and np.mean(drawn, 0)[6] == 0
