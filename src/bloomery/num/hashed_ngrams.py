"""Texts as counts of hashed words and pairs of words: features that need no vocabulary.

Legend: N texts, B buckets, F features of all texts together.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WORD = re.compile(r"\w+|[^\w\s]+")


@dataclass(frozen=True)
class Features:
    """Buckets of all n-grams, text after text, and where each text's begin: (F,) and (N + 1,)."""

    buckets: np.ndarray
    starts: np.ndarray
    size: int

    def counts(self, rows: np.ndarray) -> np.ndarray:
        """How often each bucket occurs in the texts that `rows` (N, bool) names: (B,) float64."""
        inside = np.repeat(rows, np.diff(self.starts))
        return np.bincount(self.buckets[inside], minlength=self.size).astype(np.float64)

    def sums(self, values_B: np.ndarray) -> np.ndarray:
        """Of each text the sum of a value of its n-grams: (N,)."""
        total = np.concatenate([[0.0], np.cumsum(values_B[self.buckets])])
        return total[self.starts[1:]] - total[self.starts[:-1]]


def hashed(texts: Sequence[str], buckets: int, n: int = 2) -> Features:
    """All n-grams of 1 to `n` words in lower case, signs between words counted as words; the hash is CRC-32, the same anywhere."""
    found: list[int] = []
    starts = [0]
    known: dict[str, int] = {}
    for text in texts:
        words = WORD.findall(text.lower())
        for length in range(1, n + 1):
            for k in range(len(words) - length + 1):
                gram = " ".join(words[k : k + length])
                if gram not in known:
                    if len(known) >= 1 << 20:
                        known.clear()
                    known[gram] = zlib.crc32(gram.encode("utf-8", "surrogatepass")) % buckets
                found.append(known[gram])
        starts.append(len(found))
    return Features(np.array(found, np.int64), np.array(starts, np.int64), buckets)


def divergence(p_B: np.ndarray, q_B: np.ndarray) -> float:
    """Kullback-Leibler divergence of two distributions over buckets, in nats."""
    there = p_B > 0
    return float((p_B[there] * np.log(p_B[there] / q_B[there])).sum())


def distribution(counts_B: np.ndarray, smoothing: float) -> np.ndarray:
    """Shares of the buckets, each counted `smoothing` times more."""
    return (counts_B + smoothing) / (counts_B.sum() + smoothing * len(counts_B))
