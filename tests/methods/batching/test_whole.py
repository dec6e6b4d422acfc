"""Whole documents in rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from bloomery.methods.batching.whole import Whole
from bloomery.seams import Clock, Pool, Rng

RNG = Rng((0, "batches"))


def epoch(lengths: list[int], room: int, most: int = 64) -> list[list[tuple[int, int, int]]]:
    """The rows of the first epoch, planned one at a time."""
    found, state = [], None
    while state is None or state["epoch"] == 0:
        rows, state = Whole(open=most).plan(Pool(lengths, room), state, Clock(0, 0, room, None), RNG)
        found += rows
    return found


@given(some.lists(some.integers(0, 12), min_size=1, max_size=60).filter(any), some.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_every_document_once_and_whole(lengths: list[int], most: int) -> None:
    rows = epoch(lengths, 12, most)
    pieces = [piece for row in rows for piece in row]
    assert sorted(pieces) == [(i, 0, n) for i, n in enumerate(lengths) if n]
    assert all(sum(stop for _, _, stop in row) <= 12 for row in rows)


def test_best_fit_leaves_little_padding() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 2000)
    rows = epoch(lengths.tolist(), 256)
    assert lengths.sum() / (256 * len(rows)) > 0.97


def test_sizes_that_fill_rows_exactly_leave_no_padding() -> None:
    rows = epoch([6, 4] * 20, 10)
    assert len(rows) == 20 and all(sorted(stop for _, _, stop in row) == [4, 6] for row in rows)


def test_a_long_document_is_cut_at_the_end_of_its_row() -> None:
    assert epoch([25, 3], 10) in ([[(0, 0, 10)], [(1, 0, 3)]], [[(1, 0, 3)], [(0, 0, 10)]])


def test_the_state_resumes_the_stream_and_epochs_differ() -> None:
    pool, method = Pool(list(range(1, 40)), 50), Whole()
    state, seen = None, []
    for _ in range(60):
        rows, state = method.plan(pool, state, Clock(0, 0, 50, None), RNG)
        seen.append((rows[0], state))
    together, _ = method.plan(pool, None, Clock(0, 0, 4 * 50, None), RNG)
    assert together == [row for row, _ in seen[:4]]
    for at in (3, 25, 40):
        assert method.plan(pool, seen[at][1], Clock(0, 0, 50, None), RNG) == ([seen[at + 1][0]], seen[at + 1][1])
    each = next(i for i, (_, state) in enumerate(seen) if state["epoch"] == 1) + 1
    assert [row for row, _ in seen[:each]] != [row for row, _ in seen[each : 2 * each]]


def test_nothing_to_train_on_is_said() -> None:
    with pytest.raises(ValueError, match="no document has a token"):
        Whole().plan(Pool([0, 0], 8), None, Clock(0, 0, 8, None), RNG)


def test_its_own_row_goes_before_the_pools() -> None:
    assert Whole(4).plan(Pool([9], 8), None, Clock(0, 0, 4, None), RNG)[0] == [[(0, 0, 4)]]
