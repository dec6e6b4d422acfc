"""Fixed shares of domains."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.batching.mixture import Mixture
from bloomery.methods.batching.packed import Packed
from bloomery.seams import Clock, Pool, Rng

RNG = Rng((0, "batches"))
DOMAIN = np.arange(60) % 3
POOL = Pool(np.random.default_rng(0).integers(1, 40, 60), 16, DOMAIN, ("a", "b", "c"))


def drawn(method: Mixture, pool: Pool, steps: int, per_step: int = 5) -> list:
    state, rows = None, []
    for step in range(steps):
        more, state = method.plan(pool, state, Clock(step, 0, per_step * pool.row, None), RNG)
        state = json.loads(json.dumps(state))
        rows += more
    return rows


def test_no_domain_is_more_than_a_row_from_its_share() -> None:
    shares = {"a": 0.6, "b": 0.3, "c": 0.1}
    for steps in (1, 7, 40):
        rows = drawn(Mixture(shares, Packed()), POOL, steps)
        assert len(rows) == 5 * steps and all({int(DOMAIN[d]) for d, _, _ in row} == {int(DOMAIN[row[0][0]])} for row in rows)
        counts = Counter(int(DOMAIN[row[0][0]]) for row in rows)
        for place, share in enumerate(shares.values()):
            assert abs(counts[place] - share * len(rows)) <= 1


def test_one_domain_alone_is_the_inner_batching_over_its_documents() -> None:
    rows = drawn(Mixture({"b": 1.0}, Packed()), POOL, 6)
    alone, state = np.flatnonzero(DOMAIN == 1), None
    for step in range(6):
        found, state = Packed().plan(Pool(POOL.lengths[alone], 16), state, Clock(step, 0, 80, None), RNG.child("domain", "b"))
        assert rows[5 * step : 5 * step + 5] == [[(int(alone[d]), start, stop) for d, start, stop in row] for row in found]


def test_without_weights_all_domains_count_alike() -> None:
    counts = Counter(int(DOMAIN[row[0][0]]) for row in drawn(Mixture(inner=Packed()), POOL, 12))
    assert counts == {0: 20, 1: 20, 2: 20}


def test_what_cannot_be_mixed_is_said() -> None:
    clock = Clock(0, 0, 16, None)
    with pytest.raises(BadInput, match="mixes domains and the documents have none"):
        Mixture(inner=Packed()).plan(Pool(POOL.lengths, 16), None, clock, RNG)
    with pytest.raises(BadInput, match="there is no domain 'd'"):
        Mixture({"d": 1.0}, Packed()).plan(POOL, None, clock, RNG)
    for weights in ({"a": 0.0}, {"a": -1.0, "b": 2.0}, {}):
        with pytest.raises(ValueError, match="weights"):
            Mixture(weights)
