"""Sorted pairs and rows in files, against numpy."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from bloomery.data.parallel import batches, threaded
from bloomery.data.sorting import Rows, Sorter, repeated


@pytest.mark.parametrize("memory", [1, 400_000, 1 << 30])
@pytest.mark.parametrize("high", [1 << 64, 1 << 40, 7])
def test_blocks_are_a_stable_sort(tmp_path: Path, memory: int, high: int) -> None:
    gen = np.random.default_rng(memory % 97 + high % 89)
    keys = gen.integers(0, min(high, 1 << 63), 20_000, dtype=np.uint64)
    keys[::3] = keys[0]
    sorter, numbers = Sorter(tmp_path, memory, 0, high), np.arange(len(keys), dtype=np.uint64)
    for part in np.split(np.arange(len(keys)), [10, 10, 9000, 15_000]):
        sorter.add(keys[part], numbers[part])
    blocks = list(sorter.blocks())
    assert (len(blocks) > 1) == (memory < 1 << 20) and sorter.count == len(keys)
    order = np.argsort(keys, kind="stable")
    assert np.array_equal(np.concatenate([one for one, _ in blocks]), keys[order])
    assert np.array_equal(np.concatenate([one for _, one in blocks]), numbers[order])
    assert all(a[0][-1] < b[0][0] for a, b in pairwise(blocks)) and not list(tmp_path.iterdir())


def test_repeated_gives_the_groups_of_two_or_more() -> None:
    members, ends = repeated(np.array([1, 2, 2, 5, 7, 7, 7], np.uint64), np.array([9, 8, 3, 1, 4, 0, 6], np.uint64))
    assert members.tolist() == [8, 3, 4, 0, 6] and ends.tolist() == [2, 5]


def test_rows_are_read_again_in_any_choice(tmp_path: Path) -> None:
    rows, sizes = Rows(tmp_path / "rows"), [3, 0, 2, 5, 1]
    parts = [np.full(size, k, np.uint64) for k, size in enumerate(sizes)]
    rows.add(np.array([10, 11]), np.concatenate(parts[:2]), np.array(sizes[:2]))
    rows.add(np.array([20, 30, 31]), np.concatenate(parts[2:]), np.array(sizes[2:]))
    rows.close()
    assert rows.rows.tolist() == [10, 11, 20, 30, 31] and rows.sizes().tolist() == sizes
    for places in ([], [1], [0, 2], [0, 1, 3, 4], [0, 1, 2, 3, 4]):
        flat, starts = rows.read(np.array(places, np.int64))
        assert flat.tolist() == [k for k in places for _ in range(sizes[k])]
        assert starts.tolist() == [sum(sizes[k] for k in places[:n]) for n in range(len(places) + 1)]


def test_batches_keep_to_their_size_and_threads_to_the_order() -> None:
    sizes = np.array([5, 5, 5, 90, 1, 1])
    assert [part.tolist() for part in batches(np.arange(6), sizes, 10)] == [[0, 1], [2, 3], [4, 5]]
    assert list(batches(np.arange(0), sizes[:0], 10)) == []
    for workers in (1, 3):
        assert list(threaded(lambda k: k * k, range(50), workers)) == [k * k for k in range(50)]
