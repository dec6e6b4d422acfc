"""Another mixture in the last part of the run."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.batching.mixture import Mixture
from bloomery.methods.batching.packed import Packed
from bloomery.methods.batching.upsampled import Upsampled
from bloomery.seams import Clock, Pool, Rng

RNG = Rng((0, "batches"))
DOMAIN = np.repeat([0, 1, 2], [80, 10, 10])
POOL = Pool(np.full(100, 32), 16, DOMAIN, ("web", "code", "maths"))


def run(method: Upsampled, steps: int = 100, total: float | None = 32_000) -> list[Counter]:
    state, drawn = None, []
    for step in range(steps):
        rows, state = method.plan(POOL, state, Clock(step, step * 320, 320, total), RNG)
        drawn.append(Counter(int(DOMAIN[row[0][0]]) for row in rows))
    return drawn


def test_shares_before_and_in_the_last_part():
    drawn = run(Upsampled({"web": 0.5, "code": 0.4, "maths": 0.1}, share=0.2, inner=Packed()))
    before, last = sum(drawn[:80], Counter()), sum(drawn[80:], Counter())
    assert [before[k] / 1600 for k in range(3)] == pytest.approx([0.8, 0.1, 0.1], abs=0.002)
    assert [last[k] / 400 for k in range(3)] == pytest.approx([0.5, 0.4, 0.1], abs=0.006)


def test_a_domain_left_out_of_the_last_part_rests_there():
    drawn = run(Upsampled({"web": 1.0, "code": 1.0}, share=0.1, inner=Packed()))
    assert sum(drawn[90:], Counter())[2] == 0 < sum(drawn[:90], Counter())[2]


def test_without_a_last_part_it_is_the_mixture_of_what_there_is():
    fixed, state = Mixture({"web": 0.8, "code": 0.1, "maths": 0.1}, Packed()), None
    for share, total in ((0.0, 3200), (0.3, None)):
        states = [None, None]
        ours = Upsampled(share=share, inner=Packed())
        for step in range(10):
            at = Clock(step, step * 320, 320, total)
            rows, states[0] = ours.plan(POOL, states[0], at, RNG)
            wanted, states[1] = fixed.plan(POOL, states[1], at, RNG)
            assert rows == wanted
    assert state is None


def test_what_pauses_goes_on_where_it_was():
    """`maths` is only in the first part here and `code` only in the last: no row of either is read twice before all are read."""
    method = Upsampled({"code": 1.0}, share=0.5, weights={"maths": 1.0}, inner=Packed())
    state, seen = None, {1: [], 2: []}
    for step in (0, 9, 1, 8):  # first, last, first, last part
        rows, state = method.plan(POOL, state, Clock(step, step * 80, 80, 800), RNG)
        for row in rows:
            seen[int(DOMAIN[row[0][0]])] += [(document, k) for document, start, stop in row for k in range(start, stop)]
    for pieces in seen.values():
        assert len(pieces) == 160 == len(set(pieces))


def test_bad_input():
    with pytest.raises(BadInput, match=r"upsampled: last: there is no domain 'cod'"):
        run(Upsampled({"cod": 1.0}, inner=Packed()), 1)
    with pytest.raises(BadInput, match=r"upsampled: weights: there is no domain 'x'"):
        run(Upsampled(weights={"x": 1.0}, inner=Packed()), 1)
    for knobs, wrong in (
        ({"share": 1.2}, "between 0 and 1"),
        ({"last": {"web": -1.0}}, "last must not be"),
        ({"weights": {}}, "weights must not"),
    ):
        with pytest.raises(ValueError, match=wrong):
            Upsampled(**knobs)
