"""Near-copies across a split of more documents than memory holds: the same answers as those of data.crossing, part by part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bloomery.core.log import Bar, Log
from bloomery.core.machine import release
from bloomery.data.budget import blocks
from bloomery.data.chunks import Chunks
from bloomery.data.crossing import largest_crossing, nearest
from bloomery.data.parallel import MOST
from bloomery.data.sieve import Sieve

NEAREST = 30  # bytes of memory for one byte of held-out text whose shingles are looked for
LARGEST = 3  # the same for the second way, which keeps texts, band keys and the runs of candidates
ROWS = 1024  # texts at once


def nearest_streamed(
    chunks: Chunks, held: np.ndarray, others: np.ndarray, threshold: float, room: int, log: Log
) -> tuple[np.ndarray, np.ndarray]:
    """crossing.nearest of the rows `held` to the rows `others`: the former in runs that have room, each past those of the latter that may
    reach the threshold. Smaller values may be reported too low."""
    best, where = [np.zeros(0)], [np.zeros(0, np.int64)]
    runs = list(_runs(chunks.column("bytes")[held], min(MOST, room // NEAREST)))
    likely = _likely(chunks, held, runs, others, threshold, room, log) if len(runs) > 1 else np.arange(len(others))
    with log.progress("comparing across the split", total=len(runs) * len(likely), unit="documents") as bar:
        for some in runs:
            texts = told((part.column("text") for part in chunks.parts(others[likely], ["text"])), bar)
            value, place = nearest(chunks.text_column(held[some]), texts, threshold)
            release()
            best.append(value)
            where.append(np.where(place < 0, place, likely[place]) if len(likely) else place)
    return np.concatenate(best), np.concatenate(where)


def _likely(chunks: Chunks, held: np.ndarray, runs: list[slice], others: np.ndarray, threshold: float, room: int, log: Log) -> np.ndarray:
    """Places in `others` of what may reach the threshold, by one pass over all."""
    sieve, found = Sieve(int(chunks.column("bytes")[held].sum()), room // 4), [np.zeros(0, np.bool_)]
    for some in runs:
        sieve.put(chunks.text_column(held[some]))
    with log.progress("looking across the split", total=len(others), unit="documents") as bar:
        for texts in told((part.column("text") for part in chunks.parts(others, ["text"])), bar):
            found.append(sieve.may_reach(texts, threshold))
    release()
    return np.flatnonzero(np.concatenate(found))


def told(texts: Iterator[Any], bar: Bar) -> Iterator[Any]:
    """The same, counted once they are done with."""
    for some in texts:
        yield some
        bar.advance(len(some))


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


def largest_crossing_streamed(held: Path, others: Path, threshold: float, room: int, log: Log) -> tuple[float, int]:
    """crossing.largest_crossing of two corpus files, for as many held-out documents at a time as have room."""
    best, pairs = 0.0, 0
    with log.progress("checking the split", unit="documents") as bar:
        for texts in blocks((text for some in texts_of(held) for text in some.to_pylist()), min(MOST, room // LARGEST)):
            value, count = largest_crossing(texts, told(texts_of(others), bar), threshold)
            best, pairs = max(best, value), pairs + count
            release()
    return best, pairs


def texts_of(path: Path) -> Iterator[Any]:
    """The texts of a corpus file in Arrow arrays, some rows at a time."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            texts = file.read_row_group(group, columns=["text"], use_threads=False).column("text")
            for start in range(0, len(texts), ROWS):
                yield texts.slice(start, ROWS)
