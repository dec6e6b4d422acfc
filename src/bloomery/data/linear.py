"""A linear classifier of texts over hashed words and pairs of neighbouring words, in the manner of fastText.

Joulin et al. 2016, arXiv 1607.01759. Words are those of `word_hashes.folded`, so that a character of a script without spaces is one, and a
pair of such is a character bigram. Features are scaled by the root of their number; the last weight is the constant. Compiled, and the
same texts in the same order always give the same numbers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bloomery.data.budget import blocks
from bloomery.data.compiled import compiled
from bloomery.data.parallel import batches
from bloomery.data.word_hashes import folded, words

PASSES, RATE, DECAY = 10, 0.5, 1e-6
HELD = 1 << 23  # bytes of hashes in memory


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
def _longest(first):  # type: ignore[no-untyped-def]
    """Features that a text has at most."""
    most = 0
    for d in range(len(first) - 1):
        most = max(most, first[d + 1] - first[d])
    return 2 * most + 1


@compiled
def _logits(first, hashes, weights, out):  # type: ignore[no-untyped-def]
    """The mean weight of each text's features, and the constant."""
    room = np.empty(_longest(first), np.int64)
    for d in range(len(first) - 1):
        n = _features(hashes[first[d] : first[d + 1]], len(weights) - 1, room)
        total = 0.0
        for k in range(n):
            total += weights[room[k]]
        out[d] = total / np.sqrt(max(1, n)) + weights[-1]


@compiled
def _train(first, hashes, labels, shares, weights, squares):  # type: ignore[no-untyped-def]
    """Logistic regression by stochastic gradient descent, adapted to each feature (AdaGrad), one text after the other."""
    room = np.empty(_longest(first), np.int64)
    for d in range(len(first) - 1):
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


class Hashes:
    """Word hashes of texts, 8 bytes a word: in memory while they are few, else in a file without a name, below `folder` if it is given."""

    def __init__(self, folder: Path | None = None) -> None:
        self.file, self.counts = tempfile.SpooledTemporaryFile(HELD, dir=folder), [np.zeros(1, np.int64)]  # noqa: SIM115 - closed by `close`

    def add(self, texts: Sequence[str]) -> None:
        hashes, counts = words(texts, folded())
        self.file.write(hashes.tobytes())
        self.counts.append(counts)

    def read(self, places: np.ndarray) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """The texts at some places, in this order: parts of `places`, where the words of each text begin, and the hashes of all."""
        ends = np.cumsum(np.concatenate(self.counts))
        sizes = np.diff(ends)[places]
        for some in batches(np.arange(len(places)), sizes, HELD // 8):
            parts = []
            for place in places[some]:
                self.file.seek(8 * int(ends[place]))
                parts.append(self.file.read(8 * int(ends[place + 1] - ends[place])))
            first = np.concatenate([[0], np.cumsum(sizes[some])]).astype(np.int64)
            yield slice(int(some[0]), int(some[-1]) + 1), first, np.frombuffer(b"".join(parts), np.uint64)

    def __enter__(self) -> Hashes:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()


def learned(texts: Hashes, good: np.ndarray, bad: np.ndarray, buckets: int) -> np.ndarray:
    """As `trained`, of the texts at the places `good` and `bad`."""
    sets = [good, bad]
    labels = np.repeat([1.0, 0.0], [len(some) for some in sets])
    shares = np.repeat([len(labels) / (2 * len(some)) for some in sets], [len(some) for some in sets])
    draw = np.random.Generator(np.random.Philox(0))
    weights, squares, places = np.zeros(buckets + 1), np.full(buckets + 1, 1e-8), np.concatenate(sets)
    for _ in range(PASSES):
        order = draw.permutation(len(labels))
        for part, first, hashes in texts.read(places[order]):
            some = order[part]
            _train(first, hashes, labels[some], shares[some], weights, squares)
    return weights


def trained(good: Sequence[str], bad: Sequence[str], buckets: int) -> np.ndarray:
    """Weights (buckets + 1) that tell good texts from bad ones, the two sets weighing the same whatever their sizes. Neither is empty."""
    with Hashes() as texts:
        for some in (good, bad):
            for part in blocks(some):
                texts.add(part)
        return learned(texts, np.arange(len(good)), len(good) + np.arange(len(bad)), buckets)


def logits(texts: Sequence[str], weights: np.ndarray) -> np.ndarray:
    """How much more like the good texts than like the bad ones each text is: the logarithm of the odds, float64."""
    found, begin = np.zeros(len(texts)), 0
    for part in blocks(texts):
        hashes, counts = words(part, folded())
        first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        _logits(first, hashes, weights, found[begin : begin + len(part)])
        begin += len(part)
    return found


def probabilities(texts: Sequence[str], weights: np.ndarray) -> np.ndarray:
    """The same as a probability of being good."""
    return 1 / (1 + np.exp(-np.clip(logits(texts, weights), -500, 500)))
