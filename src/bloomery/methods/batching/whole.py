from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from bloomery.core.rng import numpy_rng
from bloomery.seams import Clock, Pool, Rng

Pieces = list[tuple[int, int, int]]


@dataclass(frozen=True)
class Whole:
    """Rows of whole documents: each stays in one piece, so that an answer is never trained without its question.

    Source: standard practice (packing of conversations); best fit is Johnson 1974, "Fast algorithms for bin packing".
    Differs: documents come in a fresh order each epoch and go into the fullest of `open` rows that has room; a row leaves when a
        document fits none of them. Rows come in a fresh order too. A document longer than a row is cut at the row's end.
    Costs: the padding at the ends of rows; 24 bytes of memory per document; the saved state is two numbers.
    """

    row: int = 0  # inputs per row; 0 = the pool's, which is the model's context less what the view adds
    open: int = 64  # rows that are filled at the same time

    def __post_init__(self) -> None:
        if self.row < 0 or self.open < 1:
            raise ValueError(f"row must not be negative and open at least 1, got {self.row} and {self.open}")

    def plan(self, pool: Pool, state: Any, clock: Clock, rng: Rng) -> tuple[list[Pieces], Any]:
        """The rows of the next `clock.batch` inputs, padding counted, in pieces (document, 0, inputs).

        `state` is None at first, then {"epoch", "row"}. Raises ValueError when there is nothing to train on.
        """
        room, data = self.row or pool.row, np.ascontiguousarray(pool.lengths, np.int64).tobytes()
        epoch, row = (int(state["epoch"]), int(state["row"])) if state else (0, 0)
        rows: list[Pieces] = []
        for _ in range(max(1, clock.batch // room)):
            laid = rows_of(data, room, self.open, rng.child("epoch", epoch))
            rows.append(laid[row])
            epoch, row = (epoch, row + 1) if row + 1 < len(laid) else (epoch + 1, 0)
        return rows, {"epoch": epoch, "row": row}


@lru_cache(maxsize=2)
def rows_of(data: bytes, room: int, most: int, rng: Rng) -> list[Pieces]:
    """All rows of one epoch over documents of the lengths in `data` (int64); a pure function, kept because it costs O(documents)."""
    lengths, draw = np.frombuffer(data, np.int64), numpy_rng(rng)
    order = draw.permutation(len(lengths))
    order = order[lengths[order] > 0]
    if not len(order):
        raise ValueError("no document has a token to train on")
    rows: list[Pieces] = []
    spaces: list[tuple[int, int]] = []  # (room left, row) of the open rows, sorted
    oldest: deque[int] = deque()
    left: dict[int, int] = {}
    for document in order.tolist():
        size = min(int(lengths[document]), room)
        at = bisect_left(spaces, (size, -1))
        if at < len(spaces):
            space, row = spaces.pop(at)
        else:
            if len(spaces) == most:
                gone = oldest.popleft()
                del spaces[bisect_left(spaces, (left.pop(gone), gone))]
            space, row = room, len(rows)
            rows.append([])
            oldest.append(row)
        rows[row].append((document, 0, size))
        left[row] = space - size
        insort(spaces, (left[row], row))
    return [rows[i] for i in draw.permutation(len(rows))]
