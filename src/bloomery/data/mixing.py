"""Rows of several kinds of documents in given shares: exact in the long run, without a draw, resumable from a few numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from bloomery.core.errors import BadInput, near
from bloomery.seams import Batching, Clock, Pool, Rng

Rows = list[list[tuple[int, int, int]]]


def kinds(pool: Pool, who: str) -> list[str]:
    """The domains that hold something to train on. BadInput, in the name of the method `who`, where there is only one."""
    if pool.domain is None or len(pool.domains) < 2:
        raise BadInput(f"batching: {who} mixes domains and the documents have none; say `domain: COLUMN` where they are read")
    held = np.bincount(pool.domain, np.maximum(pool.lengths, 0), len(pool.domains))
    return [name for name, tokens in zip(pool.domains, held, strict=True) if tokens > 0]


def known(names: Mapping[str, Any], among: list[str], place: str) -> None:
    """BadInput for a name that is none of the domains."""
    for name in names:
        if name not in among:
            raise BadInput(f"{place}: there is no domain {name!r} with documents; {near(str(name), among)}")


def mixed(
    pool: Pool, inner: Batching, weights: Mapping[str, float], state: Mapping[str, Any] | None, clock: Clock, rng: Rng
) -> tuple[Rows, dict[str, Any]]:
    """The rows of a step, as many of each domain as its weight says, each domain laid out by `inner`.

    What a domain is owed beyond whole rows is kept in the state, so that no domain is ever more than a row from its share.
    """
    names = [name for name in pool.domains if weights.get(name, 0.0) > 0]
    total = sum(weights[name] for name in names)
    owed = {name: float((state or {}).get("owed", {}).get(name, 0.0)) for name in names}
    states = dict((state or {}).get("inner", {}))
    counts = dict.fromkeys(names, 0)
    for _ in range(max(1, clock.batch // pool.row)):
        for name in names:
            owed[name] += weights[name] / total
        most = max(names, key=lambda name: owed[name])
        owed[most] -= 1.0
        counts[most] += 1
    rows: Rows = []
    for name in filter(counts.get, names):
        chosen = members(np.ascontiguousarray(pool.domain, np.int64).tobytes(), pool.domains.index(name))
        alone = Pool(np.asarray(pool.lengths)[chosen], pool.row)
        batch = replace(clock, batch=counts[name] * pool.row)
        found, states[name] = inner.plan(alone, states.get(name), batch, rng.child("domain", name))
        rows += [[(int(chosen[document]), start, stop) for document, start, stop in row] for row in found]
    return rows, {"owed": owed, "inner": states}


@lru_cache(maxsize=64)
def members(domain: bytes, number: int) -> np.ndarray:
    """Places of the documents of one domain; kept, because it costs O(documents)."""
    return np.flatnonzero(np.frombuffer(domain, np.int64) == number)
