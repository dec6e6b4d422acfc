from __future__ import annotations

import numpy as np
import pytest

from bloomery.num import nearest as module
from bloomery.num.nearest import nearest, unit


def brute(queries, pool, groups, count):
    like = unit(queries) @ unit(pool).T
    best = np.stack([like[groups == group].max(0) for group in range(groups.max() + 1)])
    return np.argsort(-best, axis=1, kind="stable")[:, :count]


@pytest.mark.parametrize("block", [1, 7, 64, 4096])
def test_property_blocks_find_what_a_search_of_all_finds(block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    draw = np.random.default_rng(block)
    pool = draw.integers(-2, 3, (150, 3)).astype(np.float32)  # many are equally like
    queries, groups = draw.integers(-2, 3, (9, 3)).astype(np.float32), np.array([0, 1, 1, 0, 2, 3, 3, 3, 0])
    for count in (1, 5, 40, 150, 400):
        found = nearest(queries, pool, groups, count)
        like = unit(queries) @ unit(pool).T
        best = np.stack([like[groups == group].max(0) for group in range(4)])
        wanted = brute(queries, pool, groups, count)
        values = [np.take_along_axis(best, rows, 1) for rows in (found, wanted)]
        assert found.shape == (4, min(count, 150)) and values[0] == pytest.approx(values[1], abs=1e-6)
        assert all(len(set(rows)) == len(rows) for rows in found.tolist())


def test_exact_of_equally_like_rows_the_first_comes_first():
    pool = np.array([[0, 1], [2, 0], [1, 0], [0, 0], [3, 0]], np.float32)
    assert nearest(np.array([[5.0, 0]]), pool, np.array([0]), 4).tolist() == [[1, 2, 4, 0]]
    assert unit(np.zeros((1, 2))).tolist() == [[0, 0]]
