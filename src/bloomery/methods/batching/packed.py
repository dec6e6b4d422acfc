from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from bloomery.core.rng import numpy_rng
from bloomery.seams import Clock, Pool, Rng

Pieces = list[tuple[int, int, int]]


@dataclass(frozen=True)
class Packed:
    """Documents laid end to end in a fresh order each epoch and cut into full rows, which come in a fresh order too.

    Source: standard practice.
    Differs: no padding; rows of one long document are spread over the epoch, so that the rows of a step are not alike; pieces of one
    row never see each other, because the model masks attention between them.
    Costs: 24 bytes of memory per document; the saved state is two numbers.
    """

    row: int = 0  # inputs per row; 0 = the pool's, which is the model's context less what the view adds

    def __post_init__(self) -> None:
        if self.row < 0:
            raise ValueError(f"row must not be negative, got {self.row}")

    def plan(self, pool: Pool, state: Any, clock: Clock, rng: Rng) -> tuple[list[Pieces], Any]:
        """The rows of the next `clock.batch` inputs, each exactly `row` inputs in pieces (document, start, stop).

        `state` is None at first, then {"epoch", "row"}. An epoch has as many rows as hold every token; its last row ends with the
        first tokens of the next epoch, which are not repeated there. Raises ValueError when there is nothing to train on.
        """
        room, lengths = self.row or pool.row, np.ascontiguousarray(pool.lengths, np.int64)
        total = int(lengths.sum())
        if total < 1:
            raise ValueError("no document has a token to train on")
        each, data = -(-total // room), lengths.tobytes()
        epoch, row = (int(state["epoch"]), int(state["row"])) if state else (0, 0)
        epoch, row = (epoch, row) if row < each else (epoch + 1, 0)  # rows were shorter in the run that this one goes on from
        rows = []
        for _ in range(max(1, clock.batch // room)):
            place = epoch * each + int(_order(each, rng.child("rows", epoch))[row])
            rows.append(cut(data, total, (place * room, (place + 1) * room), rng))
            epoch, row = (epoch, row + 1) if row + 1 < each else (epoch + 1, 0)
        return rows, {"epoch": epoch, "row": row}


def cut(data: bytes, total: int, span: tuple[int, int], rng: Rng) -> Pieces:
    """The pieces of the row that holds the inputs `span` of the endless stream of epochs."""
    pieces, (begin, end) = [], span
    while begin < end:
        lap, inside = divmod(begin, total)
        documents, ends = _layout(data, rng.child("epoch", lap))
        at = int(np.searchsorted(ends, inside, "right"))
        start = inside - (int(ends[at - 1]) if at else 0)
        taken = min(int(ends[at]) - inside, end - begin)
        pieces.append((int(documents[at]), start, start + taken))
        begin += taken
    return pieces


@lru_cache(maxsize=2)
def _order(count: int, rng: Rng) -> np.ndarray:
    """A permutation that depends on its arguments alone."""
    return numpy_rng(rng).permutation(count)


@lru_cache(maxsize=4)
def _layout(data: bytes, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """Documents of an epoch in order, and the offset at which each ends; kept, because it is a pure function and costs O(documents)."""
    lengths = np.frombuffer(data, np.int64)
    order = numpy_rng(rng).permutation(len(lengths))
    order = order[lengths[order] > 0]
    return order, np.cumsum(lengths[order])
