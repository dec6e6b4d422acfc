"""Vectors that are most like others, by the cosine of their angle.

Legend: Q queries, T takers (groups of queries), N vectors of the pool, K neighbours, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

BLOCK = 4096  # vectors of the pool compared at a time


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., D) of length 1, float32; those of length 0 stay."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


@dataclass(frozen=True)
class Some:
    """Some rows of vectors, which may lie on disk, by slices."""

    vectors: Any
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> np.ndarray:
        return self.vectors[self.rows[part]]


def nearest(queries_QD: np.ndarray, pool_ND: np.ndarray | Some, groups_Q: np.ndarray, count: int) -> np.ndarray:
    """The `count` rows of the pool that are most like each group of queries, the likest first: (T, K) int64.

    A vector is as like a group as it is like that query of the group which it is most like; of equally like rows the first comes first.
    `groups_Q` are numbers from 0 on, each of which occurs. Memory: Q times BLOCK and twice T times (K + BLOCK) numbers.
    """
    order = np.argsort(groups_Q, kind="stable")
    starts = np.searchsorted(groups_Q[order], np.arange(int(groups_Q.max()) + 1))
    queries = unit(queries_QD[order])
    count = min(count, len(pool_ND))
    best, rows = np.zeros((len(starts), 0), np.float32), np.zeros((len(starts), 0), np.int64)
    for begin in range(0, len(pool_ND), BLOCK):
        like = np.maximum.reduceat(queries @ unit(pool_ND[begin : begin + BLOCK]).T, starts, axis=0)
        new = np.arange(like.shape[1])
        if best.shape[1] == count:  # full: an equally like row that comes later is no better
            new = np.flatnonzero((like > best[:, -1:]).any(0))
        best = np.concatenate([best, like[:, new]], axis=1)
        rows = np.concatenate([rows, np.broadcast_to(begin + new, (len(starts), len(new)))], axis=1)
        kept = np.argsort(-best, axis=1, kind="stable")[:, :count]
        best, rows = np.take_along_axis(best, kept, 1), np.take_along_axis(rows, kept, 1)
    return rows
