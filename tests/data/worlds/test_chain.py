"""Entropy of a chain, exactly."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from bloomery.data.worlds.chain import PARTS, Chain
from bloomery.seams import Rng


def test_bits_are_the_entropy_over_all_texts() -> None:
    """By hand, over every text of six symbols."""
    chain = Chain.drawn(3, 2, 0.5, Rng((0,)))
    total = entropy = 0.0
    for text in itertools.product(range(3), repeat=6):
        p = 1 / 9
        for a, b, c in zip(text, text[1:], text[2:], strict=False):
            p *= chain.counts[a * 3 + b, c] / PARTS
        total += p
        entropy -= p * math.log2(p) if p else 0.0
    assert total == pytest.approx(1.0) and chain.bits(6) == pytest.approx(entropy)
    assert chain.bits(2) == pytest.approx(2 * math.log2(3)) and chain.bits(1) == pytest.approx(math.log2(3))


def test_drawn_text_follows_the_counts() -> None:
    chain = Chain.drawn(4, 1, 0.5, Rng((1,)))
    text = chain.draw(40_000, Rng((2,)))
    pairs = Counter(itertools.pairwise(text))
    for a in range(4):
        row = np.array([pairs[a, b] for b in range(4)])
        assert row / row.sum() == pytest.approx(chain.counts[a] / PARTS, abs=0.03)


def test_counts_that_are_no_probabilities_are_refused() -> None:
    with pytest.raises(ValueError, match="sum to 256"):
        Chain(np.full((2, 2), 100))
