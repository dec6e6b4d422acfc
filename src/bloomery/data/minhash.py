"""Shingles, MinHash signatures and banding: candidates for near duplicates, to be verified on the shingle sets themselves.

Source: Broder 1997, On the resemblance and containment of documents; Leskovec, Rajaraman & Ullman, Mining of Massive
Datasets, chapter 3. A shingle is the 64-bit hash of 5 words in a row; a word is a run of letters, digits and _ in lower
case, where every character beyond ASCII counts as part of a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from bloomery.data.compiled import compiled

WORDS = 5  # words per shingle
PERMUTATIONS = 128
RECALL = 0.99  # share of pairs exactly at the threshold that banding must propose


@compiled
def _shingles(codes, offsets, words, out, counts):  # type: ignore[no-untyped-def]
    """Shingle hashes of every text between `offsets`, written one text after the other; `counts` per text."""
    mix, prime, basis = np.uint64(0x9E3779B97F4A7C15), np.uint64(0x100000001B3), np.uint64(0xCBF29CE484222325)
    shift32, shift29 = np.uint64(32), np.uint64(29)
    n = 0
    for d in range(offsets.shape[0] - 1):
        h, inside, seen, first = basis, False, 0, n
        w0 = w1 = w2 = w3 = np.uint64(0)
        for i in range(offsets[d], offsets[d + 1] + 1):
            c = codes[i] if i < offsets[d + 1] else np.uint8(32)
            if words[c]:
                h = (h ^ np.uint64(c)) * prime
                inside = True
            elif inside:
                x = h ^ (h >> shift32)
                x *= np.uint64(0xD6E8FEB86659FD93)
                x ^= x >> shift32
                if seen >= 4:
                    g = (((w0 * mix + w1) * mix + w2) * mix + w3) * mix + x
                    g ^= g >> shift29
                    g *= np.uint64(0xBF58476D1CE4E5B9)
                    out[n] = g ^ (g >> shift32)
                    n += 1
                w0, w1, w2, w3 = w1, w2, w3, x
                seen += 1
                h, inside = basis, False
        counts[d] = n - first
    return n


@compiled
def _signatures(shingles, counts, a, b, out):  # type: ignore[no-untyped-def]
    """Minimum of every permutation a * x + b (mod 2^32) over the shingles of each text."""
    start = 0
    for d in range(counts.shape[0]):
        row = out[d]
        for i in range(start, start + counts[d]):
            x = np.uint32(shingles[i] >> np.uint64(17))
            for t in range(a.shape[0]):
                v = np.uint32(np.uint32(x * a[t]) + b[t])
                if v < row[t]:
                    row[t] = v
        start += counts[d]


@lru_cache(maxsize=1)
def word_bytes() -> np.ndarray:
    """Which UTF-8 bytes belong to words."""
    return np.array([code >= 128 or chr(code).isalnum() or chr(code) == "_" for code in range(256)])


@lru_cache(maxsize=1)
def _permutations() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.Generator(np.random.Philox(key=0x5EED))
    a = draw.integers(0, 1 << 32, PERMUTATIONS, dtype=np.uint64).astype(np.uint32) | np.uint32(1)
    return a, draw.integers(0, 1 << 32, PERMUTATIONS, dtype=np.uint64).astype(np.uint32)


def shingles(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Shingle hashes (uint64, repeats included) of all texts in a row, and how many each text has; 0 under 5 words."""
    data = [text.lower().encode("utf-8", "surrogatepass") for text in texts]
    offsets = np.concatenate([[0], np.cumsum([len(d) for d in data])]).astype(np.int64) if data else np.zeros(1, np.int64)
    codes = np.frombuffer(b"".join(data), np.uint8)
    out, counts = np.empty(len(codes) // 2 + 1, np.uint64), np.zeros(len(data), np.int64)
    return out[: _shingles(codes, offsets, word_bytes(), out, counts)], counts


def shingle_sets(texts: Sequence[str]) -> list[np.ndarray]:
    """The set of shingles of each text: sorted, without repeats."""
    found, counts = shingles(texts)
    return [np.unique(part) for part in np.split(found, np.cumsum(counts)[:-1])] if len(counts) else []


def signatures(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """MinHash signatures (texts, 128) uint32 and the number of shingles of each text; where that is 0 the row means nothing."""
    found, counts = shingles(texts)
    out = np.full((len(texts), PERMUTATIONS), np.uint32(0xFFFFFFFF), np.uint32)
    _signatures(found, counts, *_permutations(), out)
    return out, counts


def banding(threshold: float, permutations: int = PERMUTATIONS, recall: float = RECALL) -> tuple[int, int]:
    """(bands, rows): as many rows as keep the chance 1 - (1 - s^rows)^bands of a pair at s = threshold at `recall` or above."""
    for rows in range(permutations, 0, -1):
        bands = permutations // rows
        if 1 - (1 - threshold**rows) ** bands >= recall:
            return bands, rows
    return permutations, 1


def buckets(signature: np.ndarray, bands: int, rows: int) -> list[np.ndarray]:
    """Groups of two or more rows of `signature` that agree in a whole band, each ascending."""
    found = []
    for band in range(bands):
        key = np.ascontiguousarray(signature[:, band * rows : (band + 1) * rows]).view(np.dtype((np.void, 4 * rows))).ravel()
        order = np.argsort(key, kind="stable")
        new = np.flatnonzero(np.concatenate([[True], key[order][1:] != key[order][:-1]])) if len(key) else np.zeros(0, np.int64)
        found += [group for group in np.split(order, new[1:]) if len(group) > 1]
    return found
