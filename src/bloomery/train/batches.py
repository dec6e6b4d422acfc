"""From planned rows to tensors: pieces of documents, through a view, laid side by side.

Shapes: B rows of a micro-batch, T tokens of a row.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from bloomery.data.shards import Shards
from bloomery.seams import Batch, Batching, Clock, Doc, Rng, View

Rows = list[list[tuple[int, int, int]]]
COLUMNS = {  # type, and what padding holds
    "inputs": (np.int64, 0),
    "targets": (np.int64, 0),
    "weights": (np.float32, 0),
    "positions": (np.int64, 0),
    "documents": (np.int64, -1),
}


class Feed:
    """The micro-batches of step after step; `state` (JSON) and the clock are all that a resume needs.

    `context` is T, `micro` the rows of a micro-batch. Document numbers of the last step are in `documents`.
    """

    def __init__(self, shards: Shards, batching: Batching, view: View, context: int, micro: int, rng: Rng) -> None:
        self.shards, self.batching, self.view = shards, batching, view
        self.context, self.micro, self.rng = context, micro, rng
        self.lengths = np.maximum(shards.lengths - 1, 0)  # the first token of a document is never a target
        self.state: Any = None
        self.documents: list[int] = []

    def next(self, clock: Clock) -> list[Batch]:
        """The micro-batches of the step that begins at `clock`."""
        rows, self.state = self.batching.plan(self.lengths, self.state, clock, self.rng)
        self.documents = sorted({document for row in rows for document, _, _ in row})
        laid = [lay(self.views(row, clock), self.context) for row in rows]
        return [stack(laid[i : i + self.micro]) for i in range(0, len(laid), self.micro)]

    def views(self, row: Iterable[tuple[int, int, int]], clock: Clock) -> list[dict[str, Any]]:
        """What each piece of a row trains on; trainable token k of a document is its token k + 1."""
        seen = []
        for document, start, stop in row:
            ids = self.shards.piece(document, start, stop + 1)
            seen += self.view.view(ids, self.marked(document, start, len(ids)), clock, self.rng.child("view", clock.step, document, start))
        return seen

    def marked(self, document: int, start: int, length: int) -> Doc | None:
        """What is to be trained of a piece, where the shards say so; ranges outside it become empty, so that none means all."""
        if not self.shards.spanned:
            return None
        cut = [(max(0, a - start), min(length, b - start), weight) for a, b, weight in self.shards.spans(document)]
        return Doc(str(document), "", spans=[(min(a, length), max(min(a, length), b), weight) for a, b, weight in cut])

    def names(self) -> list[str]:
        """Ids of the documents in the last step."""
        column = self.shards.table().column("id")
        return [str(column[i]) for i in self.documents]


def lay(views: list[dict[str, Any]], context: int) -> dict[str, np.ndarray]:
    """One row of `context` tokens: views side by side, numbered from 0, then padding (weight 0, document -1)."""
    row = {name: np.full(context, blank, kind) for name, (kind, blank) in COLUMNS.items()}
    at = 0
    for number, view in enumerate(views):
        to = at + len(view["inputs"])
        if to > context:
            raise ValueError(f"a row holds {to} tokens and the context is {context}; give the batching shorter rows")
        for name in ("inputs", "targets", "weights", "positions"):
            row[name][at:to] = view[name]
        row["documents"][at:to] = number
        at = to
    return row


def stack(rows: list[dict[str, np.ndarray]]) -> Batch:
    """Rows as one micro-batch of tensors (B, T)."""
    return Batch(**{name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in COLUMNS})


def micro_rows(rows: int, wish: int, context: int, tokens: int = 8192) -> int:
    """Rows of a micro-batch: a divisor of the step's rows, so that every micro-batch has the same shape.

    At most `wish`, or with 0 as many as hold about `tokens`: more gain no speed and cost memory.
    """
    most = wish or max(1, tokens // context)
    return max(n for n in range(1, rows + 1) if rows % n == 0 and n <= most)
