"""Repeated passages: runs of tokens that stand in the corpus before, word for word, found within a bound of memory.

Source: Lee et al. 2022, Deduplicating Training Data Makes Language Models Better, arXiv 2107.06499 (ExactSubstr, 50 tokens).
Differs: no suffix array. Windows of `length` tokens are hashed and sorted, and only those that can repeat: of each window the smallest
hash of its runs of half that length is kept (Schleimer et al. 2003, Winnowing), equal windows keep equal ones, so a window whose
smallest run is unique is unique itself. Every repeat is compared token by token before anything is removed. A token is a word or a
single other character (`word_hashes.written`); white space only separates. The first occurrence stays, later ones go, also within one
document as long as the two do not overlap.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bloomery.core.log import Log
from bloomery.data.compiled import compiled
from bloomery.data.near import MEMORY
from bloomery.data.parallel import MOST, batches, threaded
from bloomery.data.sorting import Rows, Sorter, repeated
from bloomery.data.spans import changed
from bloomery.data.trained_spans import still
from bloomery.data.word_hashes import placed_words, runs_of, words, written
from bloomery.seams import Doc

_S32, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)


@compiled
def _smallest(runs, n, width, picked):  # type: ignore[no-untyped-def]
    """For every `width` of the n runs in a row the place of the leftmost smallest; returns for how many."""
    queue, head, tail = np.empty(n + 1, np.int64), 0, 0
    for i in range(n):
        while tail > head and runs[queue[tail - 1]] > runs[i]:
            tail -= 1
        queue[tail] = i
        tail += 1
        if queue[head] <= i - width:
            head += 1
        if i >= width - 1:
            picked[i - width + 1] = queue[head]
    return max(0, n - width + 1)


@compiled
def _picked(tokens, ends, length, keys, where):  # type: ignore[no-untyped-def]
    """The hash of each text's picked runs, once each, and their places: text << 32 | token. Returns how many."""
    half, n, begin = (length + 1) // 2, 0, 0
    for d in range(ends.shape[0]):
        size = ends[d] - begin
        if size >= length:
            runs, picked = np.empty(size, np.uint64), np.empty(size, np.int64)
            count = _smallest(runs, runs_of(tokens[begin : ends[d]], size, half, runs), length - half + 1, picked)
            last = -1
            for p in range(count):
                if picked[p] != last:
                    last = picked[p]
                    keys[n], where[n] = runs[last], (np.uint64(d) << _S32) | np.uint64(last)
                    n += 1
        begin = ends[d]
    return n


@compiled
def _windows(tokens, ends, numbers, wanted, length, keys, where):  # type: ignore[no-untyped-def]
    """The hash and place (number << 32 | token) of each window whose picked run stands at one of the `wanted` places, ascending."""
    half, n, begin, at = (length + 1) // 2, 0, 0, 0
    for d in range(ends.shape[0]):
        size, row = ends[d] - begin, np.uint64(numbers[d]) << _S32
        while at < wanted.shape[0] and wanted[at] < row:
            at += 1
        if size >= length and at < wanted.shape[0] and wanted[at] >> _S32 == np.uint64(numbers[d]):
            runs, picked = np.empty(size, np.uint64), np.empty(size, np.int64)
            count = _smallest(runs, runs_of(tokens[begin : ends[d]], size, half, runs), length - half + 1, picked)
            runs_of(tokens[begin : ends[d]], size, length, runs)
            for p in range(count):
                place = row | np.uint64(picked[p])
                while at < wanted.shape[0] and wanted[at] < place:
                    at += 1
                if at == wanted.shape[0]:
                    break
                if wanted[at] == place:
                    keys[n], where[n] = runs[p], row | np.uint64(p)
                    n += 1
        begin = ends[d]
    return n


@compiled
def _later(members, ends, length, places, firsts):  # type: ignore[no-untyped-def]
    """Of each group of places, ascending, those that do not overlap the first; returns how many."""
    n = begin = 0
    for g in range(ends.shape[0]):
        first = members[begin]
        for k in range(begin + 1, ends[g]):
            if members[k] - first >= length:  # places in another text are further away than any length
                places[n], firsts[n] = members[k], first
                n += 1
        begin = ends[g]
    return n


@compiled
def _verified(flat, starts, row, at, source, origin, size, length, out):  # type: ignore[no-untyped-def]
    """Stretches of `length` or more tokens that really are alike: rows of `out` are (stretch, begin, end, token in the source)."""
    n = 0
    for s in range(row.shape[0]):
        a, b, same = starts[row[s]] + at[s], starts[source[s]] + origin[s], 0
        for i in range(size[s] + 1):
            if i < size[s] and flat[a + i] == flat[b + i]:
                same += 1
                continue
            if same >= length:
                out[n, 0], out[n, 1], out[n, 2], out[n, 3] = s, at[s] + i - same, at[s] + i, origin[s] + i - same
                n += 1
            same = 0
    return n


def repeated_passages(
    texts: Callable[[np.ndarray], Any],
    lengths: np.ndarray,
    length: int,
    memory: int = MEMORY,
    folder: str | Path | None = None,
    workers: int = 1,
    log: Log | None = None,
) -> np.ndarray:
    """Every passage to be removed: rows (text, first token, end, text of an earlier occurrence, its first token), int64, sorted.

    Together they cover exactly the tokens of windows of `length` tokens that stand somewhere before, without overlap. texts: fetches
    the texts of ascending numbers; all are fetched once, those with something repeated twice. lengths: their bytes. memory: bytes for
    hashes and texts, beside a byte for each text. log: told how far it is. Raises ValueError where `length` is below 2.
    """
    if length < 2:
        raise ValueError(f"a repeat has at least 2 tokens, not {length}")
    with tempfile.TemporaryDirectory(dir=folder, prefix="passages-") as name:
        finder = _Finder(Path(name), texts, np.asarray(lengths), length, memory, workers, log or Log(quiet=True))
        found = list(finder.verified(finder.stretches(finder.windows(finder.candidates()))))
    return np.concatenate(found) if found else np.zeros((0, 5), np.int64)


class _Finder:
    """The passes of `repeated_passages`, each of which sorts what the next one reads."""

    def __init__(
        self, place: Path, texts: Callable[[np.ndarray], Any], lengths: np.ndarray, length: int, memory: int, workers: int, log: Log
    ) -> None:
        self.place, self.texts, self.lengths, self.log = place, texts, lengths, log
        self.length, self.memory, self.workers = length, memory, workers
        self.tokens = Rows(place / "tokens")
        self.top = max(1, len(lengths)) << 32

    def _sorter(self, name: str, high: int) -> Sorter:
        (self.place / name).mkdir()
        return Sorter(self.place / name, self.memory // 3, 0, high)

    def _fetched(self, numbers: np.ndarray, label: str) -> Iterator[tuple[np.ndarray, Any]]:
        sizes = self.lengths[numbers]
        with self.log.progress(label, total=int(sizes.sum()), unit="bytes") as bar:
            for part in batches(numbers, sizes, min(MOST, self.memory // (24 * self.workers))):
                yield part, self.texts(part)
                bar.advance(int(self.lengths[part].sum()))

    def candidates(self) -> Iterator[np.ndarray]:
        """Places of picked runs that stand more than once, ascending, block by block; their texts' tokens are kept."""
        runs, places = self._sorter("runs", 1 << 64), self._sorter("places", self.top)
        fetched = self._fetched(np.arange(len(self.lengths)), "looking for repeated passages")
        for keys, where in threaded(partial(_picked_runs, self.length), fetched, self.workers):
            runs.add(keys, where)
        chosen = np.zeros(len(self.lengths), bool)
        for keys, where in runs.blocks():
            members, _ = repeated(keys, where)
            chosen[members >> 32] = True
            places.add(members.astype(np.uint64), np.zeros(len(members), np.uint64))
        for numbers, flat, counts in threaded(_tokens, self._fetched(np.flatnonzero(chosen), "reading what may repeat"), self.workers):
            self.tokens.add(numbers, flat, counts)
        self.tokens.close()
        for keys, _ in places.blocks():
            yield keys

    def windows(self, candidates: Iterator[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Later windows and the first that has the same hash, block by block, in the order of the hashes."""
        windows = self._sorter("windows", 1 << 64)
        for wanted in candidates:
            numbers = np.unique(wanted >> _S32).astype(np.int64)
            at = np.searchsorted(self.tokens.rows, numbers)
            for part in batches(at, 8 * self.tokens.sizes()[at], self.memory // 12):
                flat, starts = self.tokens.read(part)
                keys, where = np.empty(len(flat), np.uint64), np.empty(len(flat), np.uint64)
                n = _windows(flat, starts[1:], self.tokens.rows[part], wanted, self.length, keys, where)
                windows.add(keys[:n].copy(), where[:n].copy())
        for keys, where in windows.blocks():
            members, ends = repeated(keys, where)
            places, firsts = np.empty(len(members), np.int64), np.empty(len(members), np.int64)
            n = _later(members, ends, self.length, places, firsts)
            yield places[:n].copy(), firsts[:n].copy()

    def stretches(self, windows: Iterator[tuple[np.ndarray, np.ndarray]]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Windows that follow one another in both places, joined: place, place of the earlier occurrence, tokens."""
        later = self._sorter("later", self.top)
        for places, firsts in windows:
            later.add(places.astype(np.uint64), firsts.astype(np.uint64))
        for places, firsts in later.blocks():
            new = np.append(True, (np.diff(places) != 1) | (np.diff(firsts) != 1))
            begins = np.flatnonzero(new)
            sizes = np.diff(np.append(begins, len(places))) + self.length - 1
            yield places[begins].astype(np.int64), firsts[begins].astype(np.int64), sizes

    def verified(self, stretches: Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Iterator[np.ndarray]:
        """What is left of them after comparing token by token."""
        for places, firsts, counts in stretches:
            sizes = self.tokens.sizes()
            row, source = (np.searchsorted(self.tokens.rows, side >> 32) for side in (places, firsts))
            for part in batches(np.arange(len(places)), 8 * (sizes[row] + sizes[source]), self.memory // 6):
                needed = np.union1d(row[part], source[part])
                flat, starts = self.tokens.read(needed)
                out = np.empty((int(counts[part].sum()) // self.length, 4), np.int64)
                at, origin = places[part] & 0xFFFFFFFF, firsts[part] & 0xFFFFFFFF
                local = np.searchsorted(needed, row[part]), np.searchsorted(needed, source[part])
                n = _verified(flat, starts, local[0], at, local[1], origin, counts[part], self.length, out)
                which = part[out[:n, 0]]
                yield np.stack([places[which] >> 32, out[:n, 1], out[:n, 2], firsts[which] >> 32, out[:n, 3]], axis=1)


def _picked_runs(length: int, fetched: tuple[np.ndarray, Any]) -> tuple[np.ndarray, np.ndarray]:
    numbers, texts = fetched
    tokens, counts = words(texts, written())
    keys, where = np.empty(len(tokens), np.uint64), np.empty(len(tokens), np.uint64)
    n = _picked(tokens, np.cumsum(counts), length, keys, where)
    return keys[:n].copy(), (numbers.astype(np.uint64)[where[:n] >> _S32] << _S32) | (where[:n] & _LOW)


def _tokens(fetched: tuple[np.ndarray, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return fetched[0], *words(fetched[1], written())


def without(doc: Doc, passages: np.ndarray) -> Doc:
    """A document without its passages, rows (first token, end), and without the white space that stands before each."""
    data, places, at, held = doc.text.encode(), [], 0, 0
    _, _, ends, _ = placed_words([doc.text], written())
    for first, end in passages[np.argsort(passages[:, 0], kind="stable")].tolist():
        start, stop = max(at, int(ends[first - 1]) if first else 0), int(ends[end - 1])
        if stop > start:
            begin = held + len(data[at:start].decode())
            held, at = begin + len(data[start:stop].decode()), stop
            places.append((begin, held, ""))
    left = still(doc, changed(doc, places))
    return left if not left.text.isspace() else replace(left, text="")
