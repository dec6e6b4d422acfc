"""Exact and near duplicates: which documents go, and which one of their kind stays. Near-copies across a split are in `crossing`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bloomery.core.log import Log
from bloomery.data.near import MEMORY, components


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Shared over all, of two arrays without repeats; 0 when both are empty."""
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / max(1, len(a) + len(b) - shared)


def exact_duplicates(keys: Sequence[bytes], lengths: np.ndarray, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Rows that go, ascending, and the row that stays for each, among equal keys of 32 bytes: the longest, then the smallest id."""
    numbers = np.frombuffer(b"".join(keys), np.uint64).reshape(-1, 4)
    order = np.lexsort(numbers.T)
    new = np.any(numbers[order[1:]] != numbers[order[:-1]], axis=1)
    group = np.empty(len(order), np.int64)
    group[order] = np.cumsum(np.append(False, new))[: len(order)]
    return _keep_one(np.arange(len(order)), group, lengths, ids)


def near_duplicates(
    signatures: Iterable[tuple[np.ndarray, np.ndarray]],
    texts: Callable[[np.ndarray], Any],
    threshold: float,
    lengths: np.ndarray,
    ids: Sequence[str],
    memory: int = MEMORY,
    folder: str | Path | None = None,
    workers: int = 1,
    log: Log | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows that go, ascending, and the row that stays for each: of the documents that pairs with a Jaccard similarity of `threshold`
    or more join, the longest, then the smallest id.

    `lengths` are in bytes; the rest is that of `near.components`, whose result depends on neither `memory` nor `workers`.
    """
    rows, first = components(signatures, texts, threshold, lengths, memory, folder, workers, log)
    return _keep_one(rows, first, lengths, ids)


def _keep_one(rows: np.ndarray, group: np.ndarray, lengths: np.ndarray, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """All but the longest of each group of rows, and that one; of several, the one with the smallest id, then the first."""
    sizes = np.asarray(lengths, np.int64)[rows]
    order = np.lexsort((rows, -sizes, group))
    rows, group, sizes = rows[order], group[order], sizes[order]
    begins = np.flatnonzero(np.append(True, group[1:] != group[:-1])) if len(rows) else np.zeros(0, np.int64)
    kept, ends = rows[begins], np.append(begins[1:], len(rows))
    tied = np.flatnonzero((ends - begins > 1) & (sizes[begins] == sizes[np.minimum(begins + 1, len(rows) - 1)]))
    for k in tied.tolist():
        alike = rows[begins[k] : begins[k] + int(np.searchsorted(-sizes[begins[k] : ends[k]], -sizes[begins[k]], "right"))]
        kept[k] = min(alike.tolist(), key=lambda row: ids[row])
    stays = np.repeat(kept, ends - begins)
    gone = np.flatnonzero(rows != stays)
    gone = gone[np.argsort(rows[gone])]
    return rows[gone], stays[gone]
