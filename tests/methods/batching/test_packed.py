"""Every trained token once per epoch, rows exactly full, the same after any interruption."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.methods.batching.packed import Packed
from bloomery.seams import Clock, Pool, Rng


def rows_of(lengths, row: int, count: int, per_step: int, rng: Rng) -> list:
    state, rows = None, []
    while len(rows) < count:
        more, state = Packed().plan(Pool(lengths, row), state, Clock(0, 0, per_step * row, None), rng)
        state = json.loads(json.dumps(state))
        rows += more
    return rows[:count]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=20).filter(any), st.integers(1, 17), st.integers(1, 5), st.integers(0, 3))
def test_each_token_once_per_epoch_in_full_rows(lengths: list[int], row: int, per_step: int, seed: int) -> None:
    total = sum(lengths)
    each = -(-total // row)
    rows = rows_of(lengths, row, 2 * each, per_step, Rng((seed,)))
    assert all(sum(stop - start for _, start, stop in one) == row for one in rows)
    for epochs in (1, 2):
        counts = Counter((d, t) for one in rows[: epochs * each] for d, start, stop in one for t in range(start, stop))
        laps, over = divmod(epochs * each * row, total)
        assert len(counts) == total and all(0 <= t < lengths[d] for d, t in counts)
        assert sorted(set(counts.values())) == ([laps, laps + 1] if over else [laps])
        assert sum(count == laps + 1 for count in counts.values()) == over


def test_one_document_of_row_length_is_itself() -> None:
    rows, state = Packed().plan(Pool([8], 8), None, Clock(0, 0, 16, None), Rng((0,)))
    assert rows == [[(0, 0, 8)], [(0, 0, 8)]] and state == {"epoch": 2, "row": 0}


def test_rows_of_a_step_are_not_neighbours_and_epochs_differ() -> None:
    rows = rows_of([100_000, 100_000], 100, 4000, 8, Rng((1,)))
    starts = [one[0][:2] for one in rows]
    assert sum(b[1] - a[1] == 100 for a, b in pairwise(starts[:2000])) < 20
    assert starts[:2000] != starts[2000:]


def test_step_size_does_not_change_the_rows() -> None:
    lengths = np.random.default_rng(0).integers(0, 300, 100)
    assert rows_of(lengths, 64, 60, 1, Rng((5,))) == rows_of(lengths, 64, 60, 7, Rng((5,))) != rows_of(lengths, 64, 60, 7, Rng((6,)))


def test_its_own_row_goes_before_the_pools() -> None:
    assert [len(Packed(row).plan(Pool([90], 16), None, Clock(0, 0, 32, None), Rng((0,)))[0]) for row in (0, 8, 16)] == [2, 4, 2]


def test_errors_and_no_torch() -> None:
    with pytest.raises(ValueError, match="no document has a token"):
        Packed().plan(Pool([0, 0], 8), None, Clock(0, 0, 8, None), Rng((0,)))
    modules = "bloomery.methods.batching.packed, bloomery.methods.view.causal, bloomery.methods.schedule.wsd"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
