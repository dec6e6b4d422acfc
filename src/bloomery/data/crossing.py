"""Near-copies between two sets of documents, such as the two sides of a split, found in two ways that share little."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from bloomery.data import minhash
from bloomery.data.compiled import compiled
from bloomery.data.word_hashes import HIGHEST, UNSPACED

AT_ONCE = 1024  # texts whose signatures are made together


@compiled
def _overlaps(sets, ends, table, owners, mask, postings, starts, sizes, threshold, best, where, first):  # type: ignore[no-untyped-def]
    """For sets in a row, count what each shares with every held set and keep the best Jaccard per held set.

    A pair at the threshold shares at least threshold * |set| shingles, so a set of which fewer are known to any held set is
    passed over before anything is counted: an exact filter.
    """
    shared = np.zeros(sizes.shape[0], np.int64)
    begin = 0
    for d in range(ends.shape[0]):
        size, known = ends[d] - begin, 0
        slots = np.empty(size, np.int64)
        for i in range(begin, ends[d]):
            x = sets[i]
            p = (x >> np.uint64(7)) & mask
            while owners[p] >= 0 and table[p] != x:
                p = (p + np.uint64(1)) & mask
            if owners[p] >= 0:
                slots[known] = owners[p]
                known += 1
        if size > 0 and known / size >= threshold:  # divided as the similarity is: a product may round to above what it bounds
            for k in range(known):
                for i in range(starts[slots[k]], starts[slots[k] + 1]):
                    shared[postings[i]] += 1
            for h in range(sizes.shape[0]):
                value = shared[h] / (sizes[h] + size - shared[h])
                if value > best[h]:
                    best[h], where[h] = value, first + d
                shared[h] = 0
        begin = ends[d]


@compiled
def fill(unique, table, owners, mask):  # type: ignore[no-untyped-def]
    """Put the k-th of the different numbers into an open hash table: `table` holds numbers, `owners` their k, -1 where free."""
    for k in range(unique.shape[0]):
        p = (unique[k] >> np.uint64(7)) & mask
        while owners[p] >= 0:
            p = (p + np.uint64(1)) & mask
        table[p], owners[p] = unique[k], k


def postings(numbers: np.ndarray, owner: np.ndarray) -> tuple[Any, ...]:
    """A hash table of numbers, and for each of them who has it: (table, owners, mask, postings, starts), as `_overlaps` reads them."""
    order = np.argsort(numbers, kind="stable")
    unique, begins = np.unique(numbers[order], return_index=True)
    slots = 1 << max(4, int(2 * len(unique)).bit_length())
    table, owners, mask = np.zeros(slots, np.uint64), np.full(slots, -1, np.int64), np.uint64(slots - 1)
    fill(unique, table, owners, mask)
    return table, owners, mask, owner[order], np.append(begins, len(numbers)).astype(np.int64)


def nearest(held: Sequence[str] | Any, batches: Iterable[Sequence[str] | Any], threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """For each held text the largest Jaccard similarity to any other text, and the number of that text (-1: none).

    Values at `threshold` or above are exact and none is missed; smaller ones may be reported too low. Texts are strings or Arrow
    columns, `batches` those of the others in order; only the held ones stay in memory.
    """
    everything, sizes = minhash.flat_shingle_sets(held)
    best, where = np.zeros(len(sizes)), np.full(len(sizes), -1, np.int64)
    index = postings(everything, np.repeat(np.arange(len(sizes)), sizes))
    first = 0
    for batch in batches:
        flat, counts = minhash.flat_shingle_sets(batch)
        _overlaps(flat, np.cumsum(counts), *index, sizes, threshold, best, where, first)
        first += len(counts)
    return best, where


def largest_crossing(held: Sequence[str], others: Iterable[Sequence[str] | Any], threshold: float) -> tuple[float, int]:
    """The largest Jaccard similarity between the two sides, over all pairs that MinHash banding at `threshold` proposes.

    A second way to the result of `nearest`, sharing neither its index nor its hashes of words: runs of words as tuples, hashed and
    compared by Python. `others` gives the other texts in batches, strings or Arrow columns. Returns the value and the pairs compared.
    """
    bands, rows = minhash.banding(threshold)

    def keys_of(texts: Sequence[str] | Any) -> tuple[np.ndarray, np.ndarray]:
        signature, counts = minhash.signatures(texts)
        signed = np.flatnonzero(counts)
        return minhash.band_keys(signature[signed], bands, rows).ravel(), np.repeat(signed, bands)

    keyed = [keys_of(held[start : start + AT_ONCE]) for start in range(0, len(held), AT_ONCE)]
    keys = np.concatenate([some for some, _ in keyed])
    owner = np.concatenate([some + k * AT_ONCE for k, (_, some) in enumerate(keyed)])
    order = np.argsort(keys, kind="stable")
    keys, owner = keys[order], owner[order]
    sets: dict[int, np.ndarray] = {}
    best, pairs = 0.0, 0
    for batch in others:
        found, numbers = keys_of(batch)
        low, high = np.searchsorted(keys, found, "left"), np.searchsorted(keys, found, "right")
        proposed: dict[int, set[int]] = {}
        for k in np.flatnonzero(high > low).tolist():
            proposed.setdefault(int(numbers[k]), set()).update(owner[low[k] : high[k]].tolist())
        for number, candidates in proposed.items():
            runs = _hashed_runs(str(batch[number]))
            for k in candidates:
                if k not in sets:
                    sets[k] = _hashed_runs(held[k])
                shared = len(np.intersect1d(runs, sets[k], assume_unique=True))
                best = max(best, shared / max(1, len(runs) + len(sets[k]) - shared))
            pairs += len(candidates)
    return best, pairs


def _hashed_runs(text: str) -> np.ndarray:
    """The hashes that Python gives the different runs of a text, in this process alone."""
    return np.unique(np.fromiter(map(hash, word_runs(text)), np.int64))


@lru_cache(maxsize=1)
def _pattern() -> re.Pattern[str]:
    """What `word_hashes.folded` calls a word, as a regular expression over texts in lower case."""

    def listed(codes: Iterable[int]) -> str:
        return "".join(re.escape(chr(code)) for code in codes)

    inside = [c for c in range(HIGHEST) if chr(c).isalnum() or chr(c) == "_" or unicodedata.category(chr(c))[0] == "M"]
    alone = {c for low, high in UNSPACED for c in range(low, high + 1)}.intersection(inside)
    return re.compile(f"[{listed(sorted(alone))}\U00020000-\U0010ffff]|[{listed(c for c in inside if c not in alone)}]+")


def word_runs(text: str) -> set[tuple[str, ...]]:
    """All runs of five words, by Python's own means."""
    words = _pattern().findall(text.lower().replace("ς", "σ"))
    return set(zip(*(words[k:] for k in range(minhash.WORDS)), strict=False))
