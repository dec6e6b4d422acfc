"""Rows of several kinds."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.data import mixing
from bloomery.methods.batching.packed import Packed
from bloomery.seams import Clock, Pool, Rng

POOL = Pool(np.full(40, 32), 8, np.arange(40) % 4, ("a", "b", "c", "d"))


def test_what_is_owed_carries_over_steps_of_any_size() -> None:
    weights, state, counts = {"a": 0.07, "c": 0.93}, None, np.zeros(4)
    for step in range(1, 30):
        rows, state = mixing.mixed(POOL, Packed(), weights, state, Clock(step, 0, 8 * (step % 5 + 1), None), Rng((0,)))
        assert len(rows) == step % 5 + 1
        for row in rows:
            counts[POOL.domain[row[0][0]]] += 1
        assert abs(counts[0] - 0.07 * counts.sum()) <= 1
    assert counts[1] == counts[3] == 0


def test_kinds_are_those_with_something_to_train_on() -> None:
    empty = Pool(np.array([5, 0, 3]), 8, np.array([0, 1, 2]), ("a", "b", "c"))
    assert mixing.kinds(empty, "mixture") == ["a", "c"]
    with pytest.raises(BadInput, match="mixture mixes domains"):
        mixing.kinds(Pool(np.array([5]), 8), "mixture")
