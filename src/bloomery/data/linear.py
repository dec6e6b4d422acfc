"""A linear classifier of texts over hashed words and pairs of neighbouring words, in the manner of fastText.

Joulin et al. 2016, arXiv 1607.01759. Words are those of `word_hashes.folded`, so that a character of a script without spaces is one, and a
pair of such is a character bigram. Features are scaled by the root of their number; the last weight is the constant. Compiled, and the
same texts in the same order always give the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bloomery.data.compiled import compiled
from bloomery.data.word_hashes import folded, words

PASSES, RATE, DECAY = 10, 0.5, 1e-6


@compiled
def _features(hashes, buckets, out):  # type: ignore[no-untyped-def]
    """Buckets of a text's words and pairs of words."""
    n = 0
    for k in range(len(hashes)):
        out[n] = np.int64((hashes[k] >> np.uint64(7)) % np.uint64(buckets))
        n += 1
        if k:
            pair = hashes[k - 1] * np.uint64(0x9E3779B97F4A7C15) + hashes[k]
            out[n] = np.int64(((pair ^ (pair >> np.uint64(31))) >> np.uint64(7)) % np.uint64(buckets))
            n += 1
    return n


@compiled
def _logits(first, hashes, weights, out):  # type: ignore[no-untyped-def]
    """The mean weight of each text's features, and the constant."""
    room = np.empty(2 * len(hashes) + 1, np.int64)
    for d in range(len(first) - 1):
        n = _features(hashes[first[d] : first[d + 1]], len(weights) - 1, room)
        total = 0.0
        for k in range(n):
            total += weights[room[k]]
        out[d] = total / np.sqrt(max(1, n)) + weights[-1]


@compiled
def _train(first, hashes, labels, shares, order, weights):  # type: ignore[no-untyped-def]
    """Logistic regression by stochastic gradient descent, adapted to each feature (AdaGrad); `order` is that of the texts."""
    room, squares = np.empty(2 * len(hashes) + 1, np.int64), np.full(len(weights), 1e-8)
    for k in range(len(order)):
        d = order[k]
        n = _features(hashes[first[d] : first[d + 1]], len(weights) - 1, room)
        scale = 1 / np.sqrt(max(1, n))
        total = 0.0
        for j in range(n):
            total += weights[room[j]]
        wrong = (1 / (1 + np.exp(-(total * scale + weights[-1]))) - labels[d]) * shares[d]
        for j in range(n + 1):
            w = room[j] if j < n else len(weights) - 1
            g = wrong * (scale if j < n else 1.0) + DECAY * weights[w]
            squares[w] += g * g
            weights[w] -= RATE * g / np.sqrt(squares[w])


def trained(good: Sequence[str], bad: Sequence[str], buckets: int) -> np.ndarray:
    """Weights (buckets + 1) that tell good texts from bad ones, the two sets weighing the same whatever their sizes. Neither is empty."""
    sets = [good, bad]
    labels = np.repeat([1.0, 0.0], [len(some) for some in sets])
    shares = np.repeat([len(labels) / (2 * len(some)) for some in sets], [len(some) for some in sets])
    draw = np.random.Generator(np.random.Philox(0))
    order = np.concatenate([draw.permutation(len(labels)) for _ in range(PASSES)])
    weights = np.zeros(buckets + 1)
    _train(*_hashed([*good, *bad]), labels, shares, order, weights)
    return weights


def logits(texts: Sequence[str], weights: np.ndarray) -> np.ndarray:
    """How much more like the good texts than like the bad ones each text is: the logarithm of the odds, float64."""
    found = np.zeros(len(texts))
    _logits(*_hashed(texts), weights, found)
    return found


def probabilities(texts: Sequence[str], weights: np.ndarray) -> np.ndarray:
    """The same as a probability of being good."""
    return 1 / (1 + np.exp(-np.clip(logits(texts, weights), -500, 500)))


def _hashed(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Where the words of each text begin, and the hashes of all."""
    hashes, counts = words(texts, folded())
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), hashes
