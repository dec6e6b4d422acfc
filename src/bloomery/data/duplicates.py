"""Exact and near duplicates, and near-copies between two sets of documents; every Jaccard value is taken on the shingle sets."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

import numpy as np

from bloomery.data import minhash
from bloomery.data.compiled import compiled


def exact_key(text: str) -> bytes:
    """SHA-256 of the text after NFC, with every run of white space made one space."""
    return hashlib.sha256(" ".join(unicodedata.normalize("NFC", text).split()).encode("utf-8", "surrogatepass")).digest()


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Shared over all, of two sorted arrays without repeats; 0 when both are empty."""
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / max(1, len(a) + len(b) - shared)


def exact_duplicates(keys: Sequence[bytes], lengths: Sequence[int], ids: Sequence[str]) -> dict[int, int]:
    """{dropped row: kept row} among equal keys; kept is the longest, then the smallest id."""
    groups: dict[bytes, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    return _keep_one([group for group in groups.values() if len(group) > 1], lengths, ids)


def _keep_one(groups: Iterable[Sequence[int]], lengths: Sequence[int], ids: Sequence[str]) -> dict[int, int]:
    dropped = {}
    for group in groups:
        kept = min(group, key=lambda row: (-int(lengths[row]), ids[row]))
        dropped.update({int(row): int(kept) for row in group if row != kept})
    return dropped


def near_duplicates(
    signature: np.ndarray,
    texts: Callable[[Sequence[int]], Sequence[str]],
    threshold: float,
    lengths: Sequence[int],
    ids: Sequence[str],
) -> dict[int, int]:
    """{dropped row: kept row}: connected components of the pairs whose Jaccard similarity is `threshold` or more.

    signature: (rows, 128) of documents with a shingle; `texts` fetches the texts of rows and is called once, for candidates.
    Kept is the longest document of a component, then the smallest id.
    """
    groups = minhash.buckets(signature, *minhash.banding(threshold))
    rows = np.unique(np.concatenate(groups)) if groups else np.zeros(0, np.int64)
    sets = dict(zip(rows.tolist(), minhash.shingle_sets(texts(rows.tolist())), strict=True))
    parent = {row: row for row in sets}

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = row = parent[parent[row]]
        return row

    refuted: set[tuple[int, int]] = set()
    for group in groups:
        for i, j in combinations(group.tolist(), 2):
            a, b = root(i), root(j)
            if a == b or (i, j) in refuted:
                continue
            small, large = sorted((len(sets[i]), len(sets[j])))
            if small >= threshold * large and jaccard(sets[i], sets[j]) >= threshold:
                parent[max(a, b)] = min(a, b)
            else:
                refuted.add((i, j))
    components: dict[int, list[int]] = {}
    for row in parent:
        components.setdefault(root(row), []).append(row)
    return _keep_one([c for c in components.values() if len(c) > 1], lengths, ids)


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
        if size > 0 and known >= threshold * size:
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
def _fill(unique, table, owners, mask):  # type: ignore[no-untyped-def]
    for k in range(unique.shape[0]):
        p = (unique[k] >> np.uint64(7)) & mask
        while owners[p] >= 0:
            p = (p + np.uint64(1)) & mask
        table[p], owners[p] = unique[k], k


def nearest(held: Sequence[str], batches: Iterable[Sequence[str]], threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """For each held text the largest Jaccard similarity to any other text, and the number of that text (-1: none).

    Values at `threshold` or above are exact and none is missed; smaller ones may be reported too low. `batches` are the
    other texts in order; only the held texts stay in memory.
    """
    sets = minhash.shingle_sets(held)
    best, where = np.zeros(len(held)), np.full(len(held), -1, np.int64)
    sizes = np.array([len(s) for s in sets], np.int64)
    everything = np.concatenate(sets) if sets else np.zeros(0, np.uint64)
    owner = np.repeat(np.arange(len(sets)), sizes)
    order = np.argsort(everything, kind="stable")
    unique, begins = np.unique(everything[order], return_index=True)
    starts = np.append(begins, len(everything)).astype(np.int64)
    slots = 1 << max(4, int(2 * len(unique)).bit_length())
    table, owners, mask = np.zeros(slots, np.uint64), np.full(slots, -1, np.int64), np.uint64(slots - 1)
    _fill(unique, table, owners, mask)
    first = 0
    for batch in batches:
        others = minhash.shingle_sets(batch)
        if others:
            ends = np.cumsum([len(s) for s in others]).astype(np.int64)
            flat = np.concatenate(others)
            _overlaps(flat, ends, table, owners, mask, owner[order], starts, sizes, threshold, best, where, first)
        first += len(batch)
    return best, where


def largest_crossing(held: Sequence[str], others: Callable[[], Iterable[Sequence[str]]], threshold: float) -> tuple[float, int]:
    """The largest Jaccard similarity between the two sides, over all pairs that MinHash banding at `threshold` proposes.

    A second way to the result of `nearest`, sharing neither its index nor its hashes of words: sets of word tuples, compared
    in plain Python. `others` gives the other texts in batches and is called twice. Returns the value and the pairs compared.
    """
    found = [minhash.signatures(held), *(minhash.signatures(batch) for batch in others())]
    rows = np.flatnonzero(np.concatenate([counts for _, counts in found]))
    signature = np.concatenate([part for part, _ in found])[rows]
    pairs: set[tuple[int, int]] = set()
    for group in minhash.buckets(signature, *minhash.banding(threshold)):
        members = rows[group]
        left, right = members[members < len(held)].tolist(), members[members >= len(held)].tolist()
        pairs.update((j, i) for i in left for j in right)
    sets = {i: _word_runs(held[i]) for i in {i for _, i in pairs}}
    best, number = 0.0, len(held)
    by_other: dict[int, list[int]] = {}
    for j, i in pairs:
        by_other.setdefault(j, []).append(i)
    for batch in others():
        for text in batch:
            if number in by_other:
                b = _word_runs(text)
                best = max(best, *(len(sets[i] & b) / max(1, len(sets[i] | b)) for i in by_other[number]))
            number += 1
    return best, len(pairs)


def _word_runs(text: str) -> set[tuple[bytes, ...]]:
    """All runs of five words, by Python's own means."""
    words = re.findall(rb"[a-z0-9_\x80-\xff]+", text.lower().encode())
    return set(zip(*(words[k:] for k in range(minhash.WORDS)), strict=False))
