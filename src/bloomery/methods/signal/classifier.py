"""Signal `classifier`: whether a document reads like one set of documents or like another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bloomery.data.compiled import compiled
from bloomery.data.named import texts
from bloomery.data.words import split
from bloomery.seams import Doc, Tools

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


@dataclass(frozen=True)
class Classifier:
    """Probability that a document belongs to the good one of two named sets: logistic regression over hashed words and word pairs.

    Source: Joulin et al. 2016, arXiv 1607.01759 (fastText); as a quality filter Brown et al. 2020, arXiv 2005.14165, and DCLM, 2406.11794.
    Differs: a linear model without an embedding, trained on the spot, the two sets weighing the same whatever their sizes; features are
        scaled by the root of their number. Deterministic: the same sets in any worker give the same numbers.
    Costs: training reads both sets once in every worker and goes over them ten times; scoring is one pass over the words.
    """

    good: str = ""  # address of documents to be like, such as good/*.jsonl; there must be some
    bad: str = ""  # address of documents not to be like
    buckets: int = 1_048_576  # weights
    outside = required = ("good", "bad")

    def __post_init__(self) -> None:
        if not 2 <= self.buckets <= 1 << 28:
            raise ValueError("buckets must be from 2 to 2^28")

    def columns(self, docs: Sequence[Doc], tools: Tools | None) -> dict[str, Sequence[float]]:
        """good (probability), logit."""
        logits = np.zeros(len(docs))
        if docs:
            weights = _trained(self.good, self.bad, self.buckets)
            for w in split([doc.text for doc in docs]):
                out = np.zeros(len(w.rows))
                _logits(w.first, w.hashes, weights, out)
                logits[w.rows] = out
        return {"good": 1 / (1 + np.exp(-np.clip(logits, -500, 500))), "logit": logits}


@lru_cache(maxsize=2)
def _trained(good: str, bad: str, buckets: int) -> np.ndarray:
    sets = [texts(good, "classifier.good"), texts(bad, "classifier.bad")]
    every = [text for some in sets for text in some]
    labels = np.repeat([1.0, 0.0], [len(some) for some in sets])
    shares = np.repeat([len(every) / (2 * len(some)) for some in sets], [len(some) for some in sets])
    found: list[np.ndarray] = [np.empty(0, np.uint64)] * len(every)
    for w in split(every):
        for k, row in enumerate(w.rows):
            found[row] = w.hashes[w.first[k] : w.first[k + 1]]
    first = np.concatenate([[0], np.cumsum([len(one) for one in found])]).astype(np.int64)
    draw = np.random.Generator(np.random.Philox(0))
    weights = np.zeros(buckets + 1)
    _train(first, np.concatenate(found), labels, shares, np.concatenate([draw.permutation(len(every)) for _ in range(PASSES)]), weights)
    return weights
