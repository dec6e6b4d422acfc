"""Near duplicates within a bound of memory: candidates by MinHash banding, every accepted pair verified on its shingle sets.

Band keys are sorted, in files where they are too many; texts that share a key are candidates. The shingle sets of candidates go to a
file, and pairs of them are compared in batches. A pair is compared unless verified pairs already join its two texts, so the result is
the connected components of all candidate pairs at the threshold or above, whatever the memory or the number of threads.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bloomery.core.log import Bar, Log
from bloomery.data import minhash
from bloomery.data.compiled import compiled
from bloomery.data.parallel import MOST, batches, threaded
from bloomery.data.sorting import Rows, Sorter, repeated

MEMORY = 1 << 30  # bytes
PAIRS = 1 << 18  # compared in one go at most
BLOCK = 1 << 12  # signatures turned into keys in one go
_S32, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)


@compiled
def _root(parent, i):  # type: ignore[no-untyped-def]
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@compiled
def _pairs(members, ends, done, at, parent, left, right):  # type: ignore[no-untyped-def]
    """Pairs to compare next: the k-th member of each group with those after it, where not joined yet, from k = at[0] on.

    Ends after a k that gave any pair, or when left and right are full; `at` (k, group, member) is where to go on. Returns how many.
    """
    n, k, g, j = 0, at[0], at[1], at[2]
    while True:
        more = False
        while g < ends.shape[0]:
            begin = ends[g - 1] if g > 0 else 0
            size = ends[g] - begin
            if not done[g] and k + 1 < size:
                more, apart = True, j > 0
                for m in range(max(j, k + 1), size):
                    if _root(parent, members[begin + k]) != _root(parent, members[begin + m]):
                        if n == left.shape[0]:
                            at[0], at[1], at[2] = k, g, m
                            return n
                        left[n], right[n], apart = members[begin + k], members[begin + m], True
                        n += 1
                done[g] = not apart
            g, j = g + 1, 0
        k, g = k + 1, 0
        at[0], at[1], at[2] = k, 0, 0
        if n > 0 or not more:
            return n


@compiled
def _similar(flat, starts, left, right, threshold, out):  # type: ignore[no-untyped-def]
    """Whether the Jaccard similarity of each pair of sets is `threshold` or more; pairs with the same left one share a hash table."""
    most, last = 1, -1
    for p in range(left.shape[0]):
        most = max(most, starts[left[p] + 1] - starts[left[p]])
    room = 16
    while room < 2 * most:
        room *= 2
    table, stamps, mask = np.empty(room, np.uint64), np.full(room, -1, np.int64), np.uint64(room - 1)
    for p in range(left.shape[0]):
        i, j = left[p], right[p]
        a, b = starts[i + 1] - starts[i], starts[j + 1] - starts[j]
        if min(a, b) / max(a, b, 1) < threshold:
            out[p] = False
            continue
        if i != last:
            last = i
            for k in range(starts[i], starts[i + 1]):
                q = (flat[k] >> np.uint64(9)) & mask
                while stamps[q] == i:
                    q = (q + np.uint64(1)) & mask
                stamps[q], table[q] = i, flat[k]
        shared = 0
        for k in range(starts[j], starts[j + 1]):
            q = (flat[k] >> np.uint64(9)) & mask
            while stamps[q] == i:
                if table[q] == flat[k]:
                    shared += 1
                    break
                q = (q + np.uint64(1)) & mask
        out[p] = shared > 0 and shared / (a + b - shared) >= threshold


@compiled
def _unite(parent, left, right, same):  # type: ignore[no-untyped-def]
    for p in range(left.shape[0]):
        if same[p]:
            a, b = _root(parent, left[p]), _root(parent, right[p])
            parent[max(a, b)] = min(a, b)


@compiled
def _flatten(parent):  # type: ignore[no-untyped-def]
    for i in range(parent.shape[0]):
        parent[i] = _root(parent, i)


@compiled
def _hashes(members, ends, out):  # type: ignore[no-untyped-def]
    """A hash of each group's members."""
    begin = 0
    for g in range(ends.shape[0]):
        h = np.uint64(0xCBF29CE484222325)
        for k in range(begin, ends[g]):
            h = (h ^ np.uint64(members[k])) * np.uint64(0xBF58476D1CE4E5B9)
            h ^= h >> np.uint64(29)
        out[g], begin = h, ends[g]


def components(
    signatures: Iterable[tuple[np.ndarray, np.ndarray]],
    texts: Callable[[np.ndarray], Any],
    threshold: float,
    lengths: np.ndarray,
    memory: int = MEMORY,
    folder: str | Path | None = None,
    workers: int = 1,
    log: Log | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows with a near duplicate, ascending, and for each the smallest row of its connected component; int64.

    signatures: rows, ascending, and their signatures, uint32 (rows, 128), in parts of any size; rows without a shingle are left out.
    texts: fetches the texts of ascending rows, as strings or an Arrow column; called for batches of candidates whose `lengths` (bytes
    of every row) fit in a share of `memory`. memory: bytes for keys, sets and pairs; 9 bytes for each row and 40 for each candidate
    come on top. folder: where files go for the time being. log: told how far it is.
    """
    log = log or Log(quiet=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="near-") as name:
        place = Path(name)
        blocks, chosen = 0, np.zeros(len(lengths), bool)
        with log.progress("grouping near duplicates", total=len(lengths), unit="documents") as bar:
            for blocks, (members, ends) in enumerate(_candidates(_told(signatures, bar), threshold, memory, place), 1):
                chosen[members] = True
                np.save(place / f"members-{blocks}.npy", members)
                np.save(place / f"ends-{blocks}.npy", ends)
        rows = np.flatnonzero(chosen)
        sets = Rows(place / "sets")
        fetched = ((part, texts(part)) for part in batches(rows, lengths[rows], min(MOST, memory // (24 * workers))))
        with log.progress("reading what may be alike", total=len(rows), unit="documents") as bar:
            for part, (flat, counts) in threaded(_sets_of, fetched, workers):
                sets.add(part, flat, counts)
                bar.advance(len(part))
        sets.close()
        parent, compare = np.arange(len(rows)), _Comparison(sets, threshold, memory // 4, workers)
        refuted = np.zeros(0, np.uint64)
        with log.progress("comparing near duplicates", unit="pairs") as bar:
            for k in range(1, blocks + 1):
                members = np.searchsorted(rows, np.load(place / f"members-{k}.npy"))
                refuted = _join(members, np.load(place / f"ends-{k}.npy"), parent, compare, refuted, memory // 128, bar)
        _flatten(parent)
    several = np.flatnonzero(np.bincount(parent, minlength=len(parent))[parent] > 1)
    return rows[several], rows[parent[several]]


def _told(signatures: Iterable[tuple[np.ndarray, np.ndarray]], bar: Bar) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for rows, table in signatures:
        yield rows, table
        bar.advance(len(rows))


def _sets_of(fetched: tuple[np.ndarray, Any]) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    rows, texts = fetched
    return rows, minhash.flat_shingle_sets(texts)


def _candidates(
    signatures: Iterable[tuple[np.ndarray, np.ndarray]], threshold: float, memory: int, place: Path
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Groups of rows that share a band key: members and ends, block by block; of groups with the same members a block has one."""
    bands, width = minhash.banding(threshold)
    (place / "keys").mkdir()
    sorter = Sorter(place / "keys", memory // 2)
    for rows, table in signatures:
        for first in range(0, len(rows), BLOCK):
            keys = minhash.band_keys(table[first : first + BLOCK], bands, width)
            sorter.add(keys.ravel(), np.repeat(rows[first : first + BLOCK].astype(np.uint64), bands))
    for keys, values in sorter.blocks():
        members, ends = repeated(keys, values)
        if len(members):
            marks = np.empty(len(ends), np.uint64)
            _hashes(members, ends, marks)
            first = np.sort(np.unique(marks, return_index=True)[1])
            begins = np.append(0, ends[:-1])[first]
            sizes = ends[first] - begins
            ends = np.cumsum(sizes)
            yield members[np.repeat(begins - (ends - sizes), sizes) + np.arange(ends[-1])], ends


class _Comparison:
    """Compares pairs of sets on all threads, reading the sets of as many pairs as fit in `memory` bytes at once."""

    def __init__(self, sets: Rows, threshold: float, memory: int, workers: int) -> None:
        self.sets, self.threshold, self.memory, self.workers = sets, threshold, memory, workers
        self.whole = sets.read(np.arange(len(sets.rows))) if 8 * int(sets.starts[-1]) <= memory else None

    def similar(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Whether each pair of places, sorted by `left`, is at the threshold or above."""
        out = np.zeros(len(left), bool)
        if self.whole:
            self._compare(*self.whole, left, right, out)
            return out
        sizes = self.sets.sizes()
        new = np.append(True, left[1:] != left[:-1])
        for part in batches(np.arange(len(left)), 8 * (sizes[right] + new * sizes[left]), self.memory // 2):
            places = np.union1d(left[part], right[part])
            local = [np.searchsorted(places, side[part]) for side in (left, right)]
            self._compare(*self.sets.read(places), *local, out[part[0] : part[-1] + 1])
        return out

    def _compare(self, flat: np.ndarray, starts: np.ndarray, left: np.ndarray, right: np.ndarray, out: np.ndarray) -> None:
        step = max(256, -(-len(left) // (4 * self.workers)))
        parts = [slice(k, k + step) for k in range(0, len(left), step)]
        for _ in threaded(partial(_compare_part, flat, starts, left, right, self.threshold, out), parts, self.workers):
            pass


def _compare_part(flat: Any, starts: Any, left: Any, right: Any, threshold: float, out: np.ndarray, part: slice) -> None:
    _similar(flat, starts, left[part], right[part], threshold, out[part])


def _join(
    members: np.ndarray, ends: np.ndarray, parent: np.ndarray, compare: _Comparison, refuted: np.ndarray, most: int, bar: Bar
) -> np.ndarray:
    """Compare what the groups propose and join what is similar; returns the refuted pairs, known ones included, about `most`."""
    at, done = np.zeros(3, np.int64), np.zeros(len(ends), bool)
    room = min(PAIRS, max(1024, most))
    left, right = np.empty(room, np.int64), np.empty(room, np.int64)
    while n := _pairs(members, ends, done, at, parent, left, right):
        low, high = np.minimum(left[:n], right[:n]).astype(np.uint64), np.maximum(left[:n], right[:n]).astype(np.uint64)
        pairs = np.unique((low << _S32) | high)
        if len(refuted):
            pairs = pairs[refuted[np.minimum(np.searchsorted(refuted, pairs), len(refuted) - 1)] != pairs]
        i, j = (pairs >> _S32).astype(np.int64), (pairs & _LOW).astype(np.int64)
        same = compare.similar(i, j)
        bar.advance(len(pairs))
        _unite(parent, i, j, same)
        refuted = np.union1d(refuted if len(refuted) < most else refuted[:0], pairs[~same])
    return refuted
