"""Pictures whose pixels depend on two neighbours."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bloomery.data.worlds.image import DOMAINS, LEVELS, World, rules

WORLD = World(documents=1600)


@pytest.mark.parametrize("domain", DOMAINS)
def test_optimal_bits_are_what_an_oracle_needs(domain: str) -> None:
    table, bits, size = rules(getattr(WORLD, domain)), 0.0, 0
    for i in range(800, WORLD.documents):  # not those that the average was taken over
        doc = WORLD.document(i)
        if doc.meta["domain"] != domain:
            continue
        rows = [[LEVELS.index(one) for one in line] for line in doc.text.splitlines()]
        for y, row in enumerate(rows):
            for x, level in enumerate(row):
                like = table[row[x - 1] if x else -1, rows[y - 1][x] if y else -1]
                bits -= math.log2(like.count(level) / len(like))
        size += len(doc.text)
    assert WORLD.optimal_bits(domain) == pytest.approx(bits / size, rel=0.02)


def test_neighbours_in_both_directions_are_alike() -> None:
    grids = np.array([WORLD.pixels(i) for i in range(200) if WORLD.domain(i) == "smooth"])
    assert (grids[:, 1:] == grids[:, :-1]).mean() > 0.5 and (grids[:, :, 1:] == grids[:, :, :-1]).mean() > 0.5
    assert np.bincount(grids.ravel(), minlength=4).min() > 0.15 * grids.size
