"""A process whose entropy is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bloomery.data.worlds.chain import PARTS
from bloomery.data.worlds.series import DOMAINS, World

WORLD = World(documents=800)


def levels(i: int) -> np.ndarray:
    return np.frombuffer(WORLD.document(i).text.encode(), np.uint8).astype(int) - 97


@pytest.mark.parametrize("domain", DOMAINS)
def test_optimal_bits_are_what_an_oracle_needs(domain: str) -> None:
    counts, bits, size = WORLD.chain(domain).counts, 0.0, 0
    for i in range(WORLD.documents):
        if WORLD.document(i).meta["domain"] == domain:
            x = levels(i)
            bits += 2 * math.log2(16) - np.log2(counts[x[:-2] * 16 + x[1:-1], x[2:]] / PARTS).sum()
            size += len(x)
    assert WORLD.optimal_bits(domain) == pytest.approx(bits / size, rel=0.01)


def test_levels_follow_the_process() -> None:
    """Away from the edges the next level is the weighted sum of the last two, give or take the noise."""
    errors = []
    for i in range(4):
        x = levels(i) - 7.5
        inside = np.abs(1.6 * x[1:-1] - 0.8 * x[:-2]) < 4
        errors += list((x[2:] - 1.6 * x[1:-1] + 0.8 * x[:-2])[inside])
    assert abs(np.mean(errors)) < 0.2 and np.std(errors) == pytest.approx(math.hypot(0.7, 1 / math.sqrt(12)), rel=0.15)
    assert WORLD.optimal_bits("calm") < WORLD.optimal_bits() < WORLD.optimal_bits("rough")
