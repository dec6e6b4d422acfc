from __future__ import annotations

import pytest

from bloomery.core.errors import BadInput
from bloomery.data.split import held_out
from bloomery.seams import Rng

PACKAGES = [f"p{i % 40}" for i in range(400)]
SIZES = [100 + 7 * (i % 40) for i in range(400)]


def test_about_the_share_and_never_the_biggest():
    for seed in range(50):
        chosen = held_out(PACKAGES, SIZES, 0.1, Rng((seed,)))
        held = sum(size for name, size in zip(PACKAGES, SIZES, strict=True) if name in chosen) / sum(SIZES)
        assert 0.1 <= held <= 0.15 and "p39" not in chosen


def test_order_and_additions_do_not_reshuffle():
    rng = Rng((1,))
    chosen = held_out(PACKAGES, SIZES, 0.1, rng)
    assert held_out(PACKAGES[::-1], SIZES[::-1], 0.1, rng) == chosen
    assert held_out(PACKAGES, SIZES, 0.1, Rng((2,))) != chosen


def test_no_package_dominates_while_smaller_ones_are_to_be_had():
    packages, sizes = [f"p{i}" for i in range(101)], [10] * 80 + [400] * 21
    for seed in range(20):
        chosen = held_out(packages, sizes, 0.05, Rng((seed,)))
        totals = {name: size for name, size in zip(packages, sizes, strict=True) if name in chosen}
        assert sum(totals.values()) >= 0.05 * sum(sizes) and max(totals.values()) <= 10
    assert held_out(["big", "a", "b"], [900, 100, 90], 0.1, Rng((0,)))  # all would dominate: one is taken all the same


def test_edges():
    assert held_out(PACKAGES, SIZES, 0, Rng((0,))) == set()
    assert held_out(["a", "b"], [100, 90], 0.01, Rng((0,))) == {"b"}
    assert held_out(["a", "b", "c"], [5, 5, 5], 0.05, Rng((0,))) == {"a"}
    with pytest.raises(BadInput, match="belong to one package"):
        held_out(["a", "a"], [1, 2], 0.05, Rng((0,)))
