"""Planted pairs of known similarity: what banding proposes, against its formula, and what is accepted."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.data.minhash import band_keys, banding, shingle_sets, signatures
from bloomery.data.near import _similar, components

PAIRS, LENGTH = 400, 204


def planted(similarity: float, seed: int) -> tuple[list[str], float]:
    """Pairs of texts of LENGTH words, no shingle of which stands elsewhere, that share their beginning; and their exact similarity."""
    gen, n = np.random.default_rng(seed), LENGTH - 4
    shared = round(2 * n * similarity / (1 + similarity)) + 4
    texts = []
    for _ in range(PAIRS):
        words = [f"w{number}" for number in gen.integers(0, 1 << 40, 2 * LENGTH - shared)]
        texts += [" ".join(words[:LENGTH]), " ".join(words[:shared] + words[LENGTH:])]
    return texts, (shared - 4) / (2 * n - (shared - 4))


@pytest.mark.parametrize("similarity", [0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
def test_recall_is_that_of_the_formula(similarity: float) -> None:
    texts, exact = planted(similarity, int(1000 * similarity))
    a, b = shingle_sets(texts[:2])
    assert len(np.intersect1d(a, b)) / len(np.union1d(a, b)) == pytest.approx(exact) == pytest.approx(similarity, abs=0.01)
    bands, rows = banding(0.8)
    signature, _ = signatures(texts)
    keys = band_keys(signature, bands, rows)
    proposed = (keys[::2] == keys[1::2]).any(axis=1)
    expected = 1 - (1 - exact**rows) ** bands
    assert abs(proposed.mean() - expected) <= 4 * np.sqrt(expected * (1 - expected) / PAIRS) + 1e-9
    sizes = np.array([len(text) for text in texts])
    found, first = components([(np.arange(2 * PAIRS), signature)], lambda chosen: [texts[k] for k in chosen], 0.8, sizes)
    accepted = np.zeros(PAIRS, bool)
    accepted[found // 2] = True
    assert np.array_equal(first, found // 2 * 2)  # nothing is joined across pairs
    assert np.array_equal(accepted, proposed if exact >= 0.8 else np.zeros(PAIRS, bool))


def test_a_pair_exactly_at_the_threshold_is_one() -> None:
    """0.55 * 20 is a little above 11."""
    flat, out = np.arange(31, dtype=np.uint64) % np.uint64(20), np.zeros(1, bool)
    _similar(flat, np.array([0, 20, 31]), np.array([0]), np.array([1]), 0.55, out)
    assert out.tolist() == [True]
