"""Near duplicates and near-copies of more documents than memory holds: the same answers as those of data.duplicates, part by part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bloomery.core.machine import release
from bloomery.data import minhash
from bloomery.data.chunks import Chunks
from bloomery.data.duplicates import largest_crossing, near_duplicates, nearest

SETS = 30  # bytes of memory for one byte of text whose shingles are compared
BUCKETS = 250  # bytes of memory for one document while a band is put into buckets
SIGNATURE = 4 * minhash.PERMUTATIONS
CROSSING = 8 * SIGNATURE  # bytes of memory for one document whose signature is compared with those of held-out ones


def near_copies(chunks: Chunks, rows: np.ndarray, sizes: np.ndarray, threshold: float, desk: Path, room: int) -> dict[int, int]:
    """{dropped row: kept row} among `rows`; `desk` is a folder for signatures, `room` the bytes that may be taken.

    Candidates come from buckets as data.duplicates finds them; documents that are joined by candidate pairs are compared together,
    so only one such group has to fit.
    """
    bands, width = minhash.banding(threshold)
    path = desk / "signatures"
    signed = _written(chunks, rows, path)
    parent = np.arange(len(signed))
    for band in range(bands):
        key = _band(path, len(signed), band, width)
        parts = 1 + len(signed) * BUCKETS // room
        for part in range(parts):
            chosen = np.flatnonzero(key[:, 0] % parts == part)
            for group in minhash.buckets(key[chosen], 1, width):
                _join(parent, chosen[group])
    release()
    found: dict[int, int] = {}
    for members in _groups(parent, sizes[signed], room // SETS):
        table = np.memmap(path, np.uint32, "r", shape=(len(signed), minhash.PERMUTATIONS))
        here = signed[members]
        ids = chunks.ids.among(here)[:]
        copies = near_duplicates(np.array(table[members]), lambda k, here=here: chunks.texts(here[k]), threshold, sizes[here], ids)
        release()
        found.update((int(here[row]), int(here[kept])) for row, kept in copies.items())
    path.unlink()
    return dict(sorted(found.items()))


def _written(chunks: Chunks, rows: np.ndarray, path: Path) -> np.ndarray:
    """Write the signatures of `rows` to a file; the rows that have one."""
    found = [np.zeros(0, np.int64)]
    with open(path, "wb") as file:
        for some, signatures in chunks.signed(rows):
            found.append(some)
            file.write(signatures)
    return np.concatenate(found)


def _band(path: Path, count: int, band: int, width: int) -> np.ndarray:
    """One band of all signatures, uint32 (count, width), read in pieces: a mapped file would count as memory."""
    out = np.empty((count, width), np.uint32)
    with open(path, "rb") as file:
        done = 0
        while block := file.read(SIGNATURE << 14):
            piece = np.frombuffer(block, np.uint32).reshape(-1, minhash.PERMUTATIONS)
            out[done : done + len(piece)] = piece[:, band * width : (band + 1) * width]
            done += len(piece)
    return out


def _join(parent: np.ndarray, group: np.ndarray) -> None:
    """Make the members of a bucket one group; the root of each is its smallest member."""
    roots = {_root(parent, int(k)) for k in group}
    least = min(roots)
    for root in roots:
        parent[root] = least


def _root(parent: np.ndarray, k: int) -> int:
    while parent[k] != k:
        parent[k] = k = int(parent[parent[k]])
    return k


def _groups(parent: np.ndarray, sizes: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Members of groups of two or more, whole groups together up to about `most` bytes, ascending."""
    while not np.array_equal(parent, higher := parent[parent]):
        parent = higher
    several = np.flatnonzero(np.bincount(parent, minlength=len(parent))[parent] > 1)
    order = several[np.argsort(parent[several], kind="stable")]
    starts = np.flatnonzero(np.diff(parent[order], prepend=-1)) if len(order) else np.zeros(0, np.int64)
    batch: list[np.ndarray] = []
    held = 0
    for group in np.split(order, starts[1:]) if len(order) else ():
        size = int(sizes[group].sum())
        if batch and held + size > most:
            yield np.sort(np.concatenate(batch))
            batch, held = [], 0
        batch.append(group)
        held += size
    if batch:
        yield np.sort(np.concatenate(batch))


def nearest_streamed(chunks: Chunks, held: np.ndarray, others: np.ndarray, threshold: float, room: int) -> tuple[np.ndarray, np.ndarray]:
    """duplicates.nearest of the rows `held` to the rows `others`: the former in runs that have room, each past all of the latter."""
    best, where = [np.zeros(0)], [np.zeros(0, np.int64)]
    for some in _runs(chunks.column("bytes")[held], room // SETS):
        texts = (part.column("text").to_pylist() for part in chunks.parts(others, ["text"]))
        value, place = nearest(chunks.texts(held[some]), texts, threshold)
        release()
        best.append(value)
        where.append(place)
    return np.concatenate(best), np.concatenate(where)


def _runs(sizes: np.ndarray, most: int) -> Iterator[slice]:
    """Cuts a row of sizes into runs of about `most`."""
    start = held = 0
    for k, size in enumerate(sizes.tolist()):
        if k > start and held + size > most:
            yield slice(start, k)
            start, held = k, 0
        held += size
    if len(sizes):
        yield slice(start, len(sizes))


def largest_crossing_streamed(held: Path, others: Path, threshold: float, room: int) -> tuple[float, int]:
    """duplicates.largest_crossing of two corpus files, for as many documents of each at a time as have room."""
    best, pairs = 0.0, 0
    for texts in _texts_by(held, room // (4 * SETS)):
        for start, stop in _spans(others, max(1, room // CROSSING)):
            value, count = largest_crossing(texts, lambda start=start, stop=stop: texts_of(others, start, stop), threshold)
            best, pairs = max(best, value), pairs + count
            release()
    return best, pairs


def _texts_by(path: Path, most: int) -> Iterator[list[str]]:
    held: list[str] = []
    size = 0
    for texts in texts_of(path):
        for text in texts:
            held.append(text)
            size += len(text)
            if size >= most:
                yield held
                held, size = [], 0
    if held:
        yield held


def _spans(path: Path, most: int) -> Iterator[tuple[int, int]]:
    import pyarrow.parquet as pq

    rows = pq.read_metadata(path).num_rows
    return ((start, min(start + most, rows)) for start in range(0, rows, most))


def texts_of(path: Path, start: int = 0, stop: int | None = None) -> Iterator[list[str]]:
    """The texts of a corpus file in batches, or those of a range of rows."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        at = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            low, high = max(start - at, 0), rows if stop is None else min(stop - at, rows)
            if low < high:
                yield file.read_row_group(group, columns=["text"]).column("text").slice(low, high - low).to_pylist()
            at += rows
