"""Texts as counts of hashed words and pairs of words: features that need no vocabulary.

A word is a run of letters, digits and _ of any script in lower case, or a run of other characters that are not white space: what the
pattern \\w+|[^\\w\\s]+ of Python finds. The hash of an n-gram is the CRC-32 of its words, joined by spaces, in UTF-8: the same anywhere.

Legend: N texts, B buckets, F features of all texts together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from bloomery.data.compiled import compiled
from bloomery.data.word_hashes import packed

SPACE, WORD, SIGN = 0, 1, 2
POLYNOMIAL = 0xEDB88320  # of CRC-32, its bits reversed


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

    def running(self, values_B: np.ndarray, before: float = 0.0) -> np.ndarray:
        """The sum of a value of all n-grams that stand before each text, and of all, from `before` on: (N + 1,)."""
        return np.cumsum(np.concatenate([[before], values_B[self.buckets]]))[self.starts]


@lru_cache(maxsize=1)
def _kinds() -> np.ndarray:
    """SPACE, WORD or SIGN for every code point: uint8."""
    table = np.full(0x110000, SIGN, np.uint8)
    for code in range(0x110000):
        char = chr(code)
        if char.isalnum() or char == "_":
            table[code] = WORD
        elif char.isspace():
            table[code] = SPACE
    return table


@lru_cache(maxsize=1)
def _remainders() -> np.ndarray:
    """What a byte adds to a CRC-32: uint32 (256,)."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(POLYNOMIAL), table >> 1)
    return table.astype(np.uint32)


@compiled
def _words(codes, lo, hi, kinds, begins, ends):  # type: ignore[no-untyped-def]
    """Where the words of codes[lo:hi] begin and end if there is room in `begins`; returns how many there are."""
    n, last, i = 0, SPACE, lo
    while i < hi:
        at, c = i, np.int64(codes[i])
        i += 1
        if c >= 0xC0:
            more = 1 if c < 0xE0 else 2 if c < 0xF0 else 3
            c &= 0x3F >> more
            for _ in range(more):
                c = (c << 6) | (np.int64(codes[i]) & 0x3F)
                i += 1
        kind = kinds[c]
        if kind != SPACE:
            if kind != last:
                if len(begins):
                    begins[n] = at
                n += 1
            if len(begins):
                ends[n - 1] = i
        last = kind
    return n


@compiled
def _grams(codes, begins, ends, n, buckets, remainders, out):  # type: ignore[no-untyped-def]
    """Buckets of the n-grams of 1 to `n` of these words, all of one length after all of the one before; returns how many."""
    count, low, eight = 0, np.uint32(0xFF), np.uint32(8)
    states = np.full(len(begins), 0xFFFFFFFF, np.uint32)  # of the n-gram that begins at each word, as long as it is by now
    for length in range(1, n + 1):
        for k in range(len(begins) - length + 1):
            state = states[k]
            if length > 1:
                state = remainders[(state ^ np.uint32(0x20)) & low] ^ (state >> eight)
            for i in range(begins[k + length - 1], ends[k + length - 1]):
                state = remainders[(state ^ np.uint32(codes[i])) & low] ^ (state >> eight)
            states[k] = state
            out[count] = np.int64(state ^ np.uint32(0xFFFFFFFF)) % buckets
            count += 1
    return count


def hashed(texts: Sequence[str], buckets: int, n: int = 2) -> Features:
    """All n-grams of 1 to `n` words."""
    codes, offsets = packed([text.lower() for text in texts])
    kinds, remainders, nowhere = _kinds(), _remainders(), np.zeros(0, np.int64)
    words = [_words(codes, lo, hi, kinds, nowhere, nowhere) for lo, hi in pairwise(offsets)]
    ends = np.cumsum([0, *(sum(max(0, count - length) for length in range(n)) for count in words)]).astype(np.int64)
    found = np.empty(int(ends[-1]), np.int64)
    for k, count in enumerate(words):
        places = np.empty(count, np.int64), np.empty(count, np.int64)
        _words(codes, offsets[k], offsets[k + 1], kinds, *places)
        _grams(codes, *places, n, buckets, remainders, found[ends[k] : ends[k + 1]])
    return Features(found, ends, buckets)


def divergence(p_B: np.ndarray, q_B: np.ndarray) -> float:
    """Kullback-Leibler divergence of two distributions over buckets, in nats."""
    there = p_B > 0
    return float((p_B[there] * np.log(p_B[there] / q_B[there])).sum())


def distribution(counts_B: np.ndarray, smoothing: float) -> np.ndarray:
    """Shares of the buckets, each counted `smoothing` times more."""
    return (counts_B + smoothing) / (counts_B.sum() + smoothing * len(counts_B))
