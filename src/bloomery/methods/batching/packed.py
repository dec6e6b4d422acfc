from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bloomery.core.rng import numpy_rng
from bloomery.seams import Clock, Rng

_epochs: dict[str, Any] = {}  # the last epoch laid out: a pure function of its arguments, kept because it costs O(documents)


@dataclass(frozen=True)
class Packed:
    """Documents in a fresh order each epoch, laid end to end and cut at row ends: no padding, every token once per epoch.

    Source: standard practice.
    Differs: pieces of one row never see each other, because the model masks attention between them.
    Costs: 16 bytes of memory per document; the saved state is two numbers.
    """

    row: int = 0  # trained tokens per row; 0 = the model's context

    def __post_init__(self) -> None:
        if self.row < 0:
            raise ValueError(f"row must not be negative, got {self.row}")

    def plan(self, lengths: Any, state: Any, clock: Clock, rng: Rng) -> tuple[list[list[tuple[int, int, int]]], Any]:
        """The rows of the next `clock.batch` tokens, each exactly `row` trained tokens in pieces (document, start, stop).

        `lengths` are trained tokens per document; `state` is None at first, then {"epoch", "row"}: the number of the next row,
        counted over all epochs, and the epoch in which it begins. Raises ValueError when there is nothing to train on.
        """
        if not self.row:
            raise ValueError("row must be set before packed batching plans anything (0 means the model's context)")
        lengths = np.asarray(lengths, np.int64)
        total = int(lengths.sum())
        if total < 1:
            raise ValueError("no document has a token to train on")
        first = int(state["row"]) if state else 0
        count = max(1, clock.batch // self.row)
        rows: list[list[tuple[int, int, int]]] = [[] for _ in range(count)]
        at, stop = first * self.row, (first + count) * self.row
        while at < stop:
            epoch, inside = divmod(at, total)
            until = min(total, inside + stop - at)
            for offset, piece in self._pieces(lengths, epoch, inside, until, rng):
                rows[(epoch * total + offset) // self.row - first].append(piece)
            at += until - inside
        return rows, {"epoch": stop // total, "row": first + count}

    def _pieces(self, lengths: np.ndarray, epoch: int, begin: int, end: int, rng: Rng) -> list[tuple[int, tuple[int, int, int]]]:
        """What lies between two offsets of an epoch, cut where documents and rows end: (offset, (document, start, stop))."""
        order, ends = _layout(lengths, epoch, rng)
        total = int(ends[-1])
        shift = -epoch * total % self.row  # where the first row boundary of this epoch lies
        rows = np.arange(shift + (max(begin - shift, 0) // self.row) * self.row, end, self.row)
        inner = ends[np.searchsorted(ends, begin, "right") : np.searchsorted(ends, end, "left")]
        cuts = np.unique(np.concatenate([[begin, end], rows[(rows > begin) & (rows < end)], inner]))
        place = np.searchsorted(ends, cuts[:-1], "right")
        base = np.where(place > 0, ends[place - 1], 0)
        columns = (cuts[:-1], order[place], cuts[:-1] - base, cuts[1:] - base)
        return [(offset, (document, start, stop)) for offset, document, start, stop in zip(*(c.tolist() for c in columns), strict=True)]


def _layout(lengths: np.ndarray, epoch: int, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """Order of the documents in an epoch and the offset at which each ends; the same for the same lengths and key."""
    name = (epoch, rng.key, len(lengths))
    if _epochs.get("name") != name or not np.array_equal(_epochs["lengths"], lengths):
        order = numpy_rng(rng.child("epoch", epoch)).permutation(len(lengths))
        order = order[lengths[order] > 0]
        _epochs.update(name=name, lengths=lengths.copy(), layout=(order, np.cumsum(lengths[order])))
    return _epochs["layout"]
