"""Pieces of power-of-two lengths, short ones first."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from bloomery.methods.batching.dataset_decomposition import DatasetDecomposition, pieces_of
from bloomery.seams import Clock, Pool, Rng

RNG = Rng((0, "batches"))


def run(method: DatasetDecomposition, pool: Pool, steps: int, batch: int) -> list:
    """The rows of each step."""
    state, found = None, []
    for step in range(steps):
        rows, state = method.plan(pool, state, Clock(step, 0, batch, None), RNG)
        state = json.loads(json.dumps(state))
        found.append(rows)
    return found


def test_a_document_is_cut_as_its_length_reads_in_binary() -> None:
    lengths = np.array([0b1011010, 7, 300, 0], np.int64)
    found = pieces_of(lengths.tobytes(), 2, 128)
    cuts = {2 << k: [tuple(map(int, row)) for row in bucket] for k, bucket in enumerate(found)}
    assert cuts[64] == [(0, 0, 64)] and cuts[16] == [(0, 64, 80)] and cuts[128] == [(2, 0, 128), (2, 128, 256)]
    assert cuts[8] == [(0, 80, 88), (2, 288, 296)] and cuts[4] == [(1, 0, 4), (2, 296, 300)] and cuts[32] == [(2, 256, 288)]
    assert cuts[2] == [(0, 88, 90), (1, 4, 6), (1, 6, 7)]  # the last is an end of one input


@given(some.lists(some.integers(0, 200), min_size=1, max_size=12).filter(any), some.sampled_from([1, 4, 16]))
@settings(max_examples=40, deadline=None)
def test_every_input_is_in_exactly_one_piece(lengths: list[int], shortest: int) -> None:
    found = pieces_of(np.array(lengths, np.int64).tobytes(), shortest, 64)
    inputs = Counter((int(d), i) for bucket in found for d, start, stop in bucket for i in range(start, stop))
    assert inputs == Counter((d, i) for d, length in enumerate(lengths) for i in range(length))
    for k, bucket in enumerate(found):
        sizes = {int(stop - start) for _, start, stop in bucket}
        assert sizes <= ({shortest << k} if k else set(range(1, shortest + 1)))


def test_steps_hold_equal_tokens_of_one_length_and_no_piece_comes_twice_in_an_epoch() -> None:
    pool, batch = Pool(np.random.default_rng(0).integers(16, 2000, 400) // 16 * 16, 256), 1024
    steps = run(DatasetDecomposition(16), pool, 900, batch)
    seen: Counter = Counter()
    held = [len(bucket) for bucket in pieces_of(np.asarray(pool.lengths, np.int64).tobytes(), 16, 256)]
    total, used = int(pool.lengths.sum()), 0
    for rows in steps:
        sizes = {stop - start for ((_, start, stop),) in rows}
        assert len(sizes) == 1 and len(rows) * sizes.pop() == batch
        for (piece,) in rows:
            seen[piece] += 1
        used += batch
        if used <= total - batch * len(held):
            assert max(seen.values()) == 1
    for k in range(len(held)):  # within a length none is ahead of another by more than one epoch
        counts = [n for (_, start, stop), n in seen.items() if stop - start == 16 << k]
        assert max(counts) - min(counts) <= 1 and len(counts) == held[k]


def test_lengths_grow_within_a_cycle_where_asked() -> None:
    pool = Pool(np.full(4000, 16 + 32 + 64 + 128), 128)

    def mean_place(grow: float) -> np.ndarray:
        lengths = np.array([rows[0][0][2] - rows[0][0][1] for rows in run(DatasetDecomposition(16, cycles=1, grow=grow), pool, 930, 1024)])
        return np.array([np.flatnonzero(lengths == 16 << k).mean() for k in range(4)]) / len(lengths)

    grown, even = mean_place(4.0), mean_place(1.0)
    assert (np.diff(grown) > 0).all() and grown[-1] - grown[0] > 0.2
    assert abs(even - 0.5).max() < 0.08


def test_cycles_share_the_pieces_out() -> None:
    pool = Pool(np.full(800, 16 + 64), 64)
    lengths = [rows[0][0][2] - rows[0][0][1] for rows in run(DatasetDecomposition(16, cycles=4, grow=1e6), pool, 62, 1024)]
    changes = [i for i in range(1, len(lengths)) if lengths[i] < lengths[i - 1]]
    assert len(changes) == 3  # from long back to short, three times


def test_what_cannot_be_planned_is_said() -> None:
    clock = Clock(0, 0, 64, None)
    with pytest.raises(ValueError, match="no document has a token"):
        DatasetDecomposition(4).plan(Pool([0, 0], 16), None, clock, RNG)
    with pytest.raises(ValueError, match="a row holds 8 inputs"):
        DatasetDecomposition(16).plan(Pool([40], 8), None, clock, RNG)
    for knobs in ({"shortest": 12}, {"longest": 100}, {"cycles": 0}, {"grow": 0.0}):
        with pytest.raises(ValueError, match="must be"):
            DatasetDecomposition(**knobs)
