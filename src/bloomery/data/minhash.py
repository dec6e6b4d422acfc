"""Shingles, MinHash signatures and banding: candidates for near duplicates, to be verified on the shingle sets themselves.

Source: Broder 1997, On the resemblance and containment of documents; Leskovec, Rajaraman & Ullman, Mining of Massive
Datasets, chapter 3. A shingle is the 64-bit hash of 5 words in a row, words as `word_hashes.folded` has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from bloomery.data.compiled import compiled
from bloomery.data.word_hashes import folded, packed, runs_of, words_of

WORDS = 5  # words per shingle
PERMUTATIONS = 128
RECALL = 0.99  # share of pairs exactly at the threshold that banding must propose
_MIX, _S29, _S32 = np.uint64(0x9E3779B97F4A7C15), np.uint64(29), np.uint64(32)
_LAST = np.uint64(0xBF58476D1CE4E5B9)


@compiled
def _shingles_of(codes, lo, hi, table, out):  # type: ignore[no-untyped-def]
    """Shingle hashes of codes[lo:hi], repeats included; returns how many."""
    nowhere = np.empty(0, np.int64)
    return runs_of(out, words_of(codes, lo, hi, table, out, nowhere, nowhere), WORDS, out)


@compiled
def _minima(x, n, a, b, row):  # type: ignore[no-untyped-def]
    """Lower row[t] to the minimum of x * a[t] + b[t] (mod 2^32) over x[:n]; four x at a time, so that memory is touched seldom."""
    for i in range(0, n, 4):
        x0, x1, x2, x3 = x[i], x[min(i + 1, n - 1)], x[min(i + 2, n - 1)], x[min(i + 3, n - 1)]
        for t in range(row.shape[0]):
            u, v = a[t], b[t]
            p, q = np.uint32(x0 * u + v), np.uint32(x1 * u + v)
            r, s = np.uint32(x2 * u + v), np.uint32(x3 * u + v)
            p, r = p if p < q else q, r if r < s else s
            p = p if p < r else r
            row[t] = p if p < row[t] else row[t]


@compiled
def _signatures(codes, offsets, table, a, b, out, counts):  # type: ignore[no-untyped-def]
    longest = 1
    for d in range(counts.shape[0]):
        longest = max(longest, offsets[d + 1] - offsets[d])
    shingles, x, row = np.empty(longest, np.uint64), np.empty(longest, np.uint32), np.empty(a.shape[0], np.uint32)
    for d in range(counts.shape[0]):
        n = _shingles_of(codes, offsets[d], offsets[d + 1], table, shingles)
        for i in range(n):
            x[i] = np.uint32(shingles[i] >> np.uint64(17))
        row[:] = np.uint32(0xFFFFFFFF)
        _minima(x, n, a, b, row)
        out[d] = row
        counts[d] = n


@compiled
def _distinct(codes, offsets, table, out, counts):  # type: ignore[no-untyped-def]
    """The different shingles of every text, in the order in which they first appear, through a small hash table."""
    longest, total = 1, 0
    for d in range(counts.shape[0]):
        longest = max(longest, offsets[d + 1] - offsets[d])
    found, seen, stamps = np.empty(longest, np.uint64), np.empty(16, np.uint64), np.zeros(16, np.int64)
    for d in range(counts.shape[0]):
        n = _shingles_of(codes, offsets[d], offsets[d + 1], table, found)
        if 2 * n > seen.shape[0]:
            room = 2 * seen.shape[0]
            while room < 2 * n:
                room *= 2
            seen, stamps = np.empty(room, np.uint64), np.zeros(room, np.int64)
        first, mask = total, np.uint64(seen.shape[0] - 1)
        for i in range(n):
            p = (found[i] >> np.uint64(9)) & mask
            while stamps[p] == d + 1 and seen[p] != found[i]:
                p = (p + np.uint64(1)) & mask
            if stamps[p] != d + 1:
                stamps[p], seen[p], out[total] = d + 1, found[i], found[i]
                total += 1
        counts[d] = total - first
    return total


@lru_cache(maxsize=1)
def _permutations() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.Generator(np.random.Philox(key=0x5EED))
    a = draw.integers(0, 1 << 32, PERMUTATIONS, dtype=np.uint64).astype(np.uint32) | np.uint32(1)
    return a, draw.integers(0, 1 << 32, PERMUTATIONS, dtype=np.uint64).astype(np.uint32)


def flat_shingle_sets(texts: Sequence[str] | Any) -> tuple[np.ndarray, np.ndarray]:
    """The different shingles of all texts in a row, uint64, and how many each has, int64 (texts,); none under 5 words."""
    codes, offsets = packed(texts)
    counts = np.zeros(len(offsets) - 1, np.int64)
    out = np.empty(int(offsets[-1] - offsets[0]) + 1, np.uint64)
    return out[: _distinct(codes, offsets, folded(), out, counts)], counts


def shingle_sets(texts: Sequence[str] | Any) -> list[np.ndarray]:
    """The set of shingles of each text, without repeats, in the order of the text."""
    found, counts = flat_shingle_sets(texts)
    return np.split(found, np.cumsum(counts)[:-1]) if len(counts) else []


def signatures(texts: Sequence[str] | Any) -> tuple[np.ndarray, np.ndarray]:
    """MinHash signatures (texts, 128) uint32 and the number of shingles of each text; where that is 0 the row means nothing.

    `texts` are strings, or an Arrow column of them, which is read where it lies.
    """
    codes, offsets = packed(texts)
    out, counts = np.empty((len(offsets) - 1, PERMUTATIONS), np.uint32), np.zeros(len(offsets) - 1, np.int64)
    _signatures(codes, offsets, folded(), *_permutations(), out, counts)
    return out, counts


def banding(threshold: float, permutations: int = PERMUTATIONS, recall: float = RECALL) -> tuple[int, int]:
    """(bands, rows): as many rows as keep the chance 1 - (1 - s^rows)^bands of a pair at s = threshold at `recall` or above."""
    for rows in range(permutations, 0, -1):
        bands = permutations // rows
        if 1 - (1 - threshold**rows) ** bands >= recall:
            return bands, rows
    return permutations, 1


@compiled
def _band_keys(signature, bands, rows, out):  # type: ignore[no-untyped-def]
    for d in range(signature.shape[0]):
        for band in range(bands):
            h = np.uint64(band + 1) * _MIX
            for k in range(band * rows, (band + 1) * rows):
                h = (h ^ np.uint64(signature[d, k])) * _LAST
                h ^= h >> _S29
            h = (h ^ (h >> _S32)) * _MIX
            out[d, band] = h ^ (h >> _S32)


def band_keys(signature: np.ndarray, bands: int, rows: int) -> np.ndarray:
    """A hash of every band with its number, uint64 (texts, bands): two texts share a key where their signatures agree in that band."""
    out = np.empty((len(signature), bands), np.uint64)
    _band_keys(signature, bands, rows, out)
    return out
