"""Sorting more pairs of numbers than memory should hold: they wait in files, each a range of keys, and are sorted range by range."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bloomery.data.compiled import compiled

FILES = 64  # ranges that one file is divided into
DIGIT = 11  # bits that a pass of the sort looks at


@compiled
def _radix(keys, values, low, high):  # type: ignore[no-untyped-def]
    """Stable sort of pairs by the bits low..high of the key; returns the arrays that hold the result."""
    n, size = keys.shape[0], 1 << DIGIT
    other_keys, other_values = np.empty_like(keys), np.empty_like(values)
    counts, mask = np.empty(size + 1, np.int64), np.uint64(size - 1)
    for shift in range(low, high, DIGIT):
        s = np.uint64(shift)
        counts[:] = 0
        for i in range(n):
            counts[((keys[i] >> s) & mask) + np.uint64(1)] += 1
        if counts[1:].max() == n:  # all alike
            continue
        for k in range(size):
            counts[k + 1] += counts[k]
        for i in range(n):
            digit = (keys[i] >> s) & mask
            at = counts[digit]
            other_keys[at], other_values[at] = keys[i], values[i]
            counts[digit] = at + 1
        keys, other_keys = other_keys, keys
        values, other_values = other_values, values
    return keys, values


def sorted_pairs(keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both uint64 arrays in the order of the keys; equal keys keep the order in which they came."""
    if len(keys) < 2:
        return keys, values
    return _radix(keys.copy(), values.copy(), 0, int(keys.max()).bit_length())


@compiled
def _repeated(keys, values, members, ends):  # type: ignore[no-untyped-def]
    n = g = i = 0
    while i < keys.shape[0]:
        j = i + 1
        while j < keys.shape[0] and keys[j] == keys[i]:
            j += 1
        if j - i > 1:
            for k in range(i, j):
                members[n] = values[k]
                n += 1
            ends[g] = n
            g += 1
        i = j
    return n, g


def repeated(keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values of sorted keys that stand there twice or more, group by group, and where each group ends; int64."""
    members, ends = np.empty(len(keys), np.int64), np.empty(len(keys) // 2 + 1, np.int64)
    n, groups = _repeated(keys, values, members, ends)
    return members[:n].copy(), ends[:groups].copy()


class Sorter:
    """Pairs (key, value) of uint64 in any number; `blocks` gives them sorted by key, equal keys in the order in which they were added.

    Up to `memory` bytes are used, whatever the number of pairs, save that all pairs of one key are held together.
    """

    def __init__(self, folder: Path, memory: int, low: int = 0, high: int = 1 << 64) -> None:
        """Keys are between `low` and `high`; files go below `folder`, which must exist and be the sorter's own."""
        self.folder, self.memory, self.low, self.high = Path(folder), memory, low, high
        self.room = max(1024, memory // 80)  # pairs at once: 16 bytes each, five times over while they are joined and sorted
        self.held: list[tuple[np.ndarray, np.ndarray]] = []
        self.waiting = self.count = 0
        self.spilled = False

    def add(self, keys: np.ndarray, values: np.ndarray) -> None:
        """Take more pairs; the arrays are kept as they are until they are sorted or written."""
        self.held.append((keys, values))
        self.waiting += len(keys)
        self.count += len(keys)
        if self.waiting > self.room:
            self._spill()

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Sorted pairs block by block; a key is never divided. The pairs are gone afterwards."""
        if not self.spilled:
            held, self.held, self.waiting = self._joined(), [], 0
            if len(held[0]):
                yield sorted_pairs(*held)
            return
        self._spill()
        for k in range(FILES):
            path = self.folder / f"{k:02d}"
            if path.is_file():
                yield from self._range(path, k)

    def _range(self, path: Path, k: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The pairs of one file, sorted at once, or divided again where they are too many."""
        low, high = self._border(k), self._border(k + 1)
        if path.stat().st_size // 16 <= self.room or high - low <= 1:
            pairs = np.fromfile(path, np.uint64).reshape(-1, 2)
            path.unlink()
            keys, values = pairs[:, 0].copy(), pairs[:, 1].copy()
            del pairs
            yield sorted_pairs(keys, values)
            return
        below = path.with_name(f"{path.name}-again")
        below.mkdir()
        finer = Sorter(below, self.memory, low, high)
        with open(path, "rb") as file:
            while len(part := np.fromfile(file, np.uint64, 2 * max(512, self.room // 2))):
                finer.add(part[::2].copy(), part[1::2].copy())
        path.unlink()
        yield from finer.blocks()
        below.rmdir()

    def _border(self, k: int) -> int:
        return self.low + -(-(self.high - self.low) * k // FILES)

    def _joined(self) -> tuple[np.ndarray, np.ndarray]:
        if not self.held:
            return np.zeros(0, np.uint64), np.zeros(0, np.uint64)
        return np.concatenate([keys for keys, _ in self.held]), np.concatenate([values for _, values in self.held])

    def _spill(self) -> None:
        """Append what is held to the files of its ranges."""
        keys, values = self._joined()
        self.held, self.waiting, self.spilled = [], 0, True
        borders = np.array([self._border(k) for k in range(1, FILES)], np.uint64)
        place, order = sorted_pairs(np.searchsorted(borders, keys, side="right").astype(np.uint64), np.arange(len(keys), dtype=np.uint64))
        pairs = np.stack([keys[order], values[order]], axis=1)
        ends = np.searchsorted(place, np.arange(FILES + 1, dtype=np.uint64))
        for k in range(FILES):
            if ends[k + 1] > ends[k]:
                with open(self.folder / f"{k:02d}", "ab") as file:
                    pairs[ends[k] : ends[k + 1]].tofile(file)


class Rows:
    """Arrays of uint64 of many rows in one file, written once in ascending order and read again in any: only an index is in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = open(path, "wb")  # noqa: SIM115 - closed by `close`
        self.rows, self.starts = np.zeros(0, np.int64), np.zeros(1, np.int64)
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, rows: np.ndarray, flat: np.ndarray, counts: np.ndarray) -> None:
        """Append the arrays of ascending `rows`: `flat` holds them one after the other, `counts` is how long each is."""
        flat.tofile(self.file)
        self._parts.append((np.asarray(rows, np.int64), counts))

    def close(self) -> None:
        """End writing; from here on rows can be read."""
        self.file.close()
        if self._parts:
            self.rows = np.concatenate([rows for rows, _ in self._parts])
            self.starts = np.concatenate([[0], np.cumsum(np.concatenate([counts for _, counts in self._parts]))]).astype(np.int64)
        self._parts = []

    def sizes(self) -> np.ndarray:
        """Numbers of each row, in their order."""
        return np.diff(self.starts)

    def read(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The arrays at ascending `places` of `rows`, one after the other, and where each begins, int64 (places + 1,)."""
        counts = self.starts[places + 1] - self.starts[places]
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        flat = np.empty(int(starts[-1]), np.uint64)
        breaks = np.flatnonzero(np.diff(places) != 1) + 1
        with open(self.path, "rb", buffering=0) as file:
            for first, stop in zip(np.append(0, breaks), np.append(breaks, len(places)), strict=True):
                if starts[stop] > starts[first]:
                    file.seek(8 * int(self.starts[places[first]]))
                    file.readinto(memoryview(flat[starts[first] : starts[stop]]).cast("B"))
        return flat, starts
