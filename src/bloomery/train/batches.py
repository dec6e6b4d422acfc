"""From planned rows to tensors: pieces of documents, through a view, laid side by side.

Shapes: B rows of a micro-batch, T tokens of a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
import torch

from bloomery.core.errors import BadInput
from bloomery.data.shards import Shards
from bloomery.seams import Batch, Batching, Clock, Doc, Pool, Rng, View, Vocab

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

    `context` is the longest T, `micro` the rows of a micro-batch at that length. Document numbers of the last step are in
    `documents`. Raises BadInput for a view that needs more spare ids than the vocabulary has.

    Several ranks plan the same step, and each makes its `part` of the rows: the place of this rank, and how many there are. Where the rows
    cannot be divided, the last ranks get rows of padding. With `looks` all rows of the step are made too, as `whole`.
    """

    part: tuple[int, int] = (0, 1)
    looks = False

    def __init__(self, shards: Shards, batching: Batching, view: View, context: int, micro: int, rng: Rng, vocab: Vocab) -> None:
        self.shards, self.batching, self.view, self.vocab = shards, batching, view, vocab
        self.context, self.micro, self.rng = context, micro, rng
        enough(view, len(vocab.spare))
        room = view.room(context) if hasattr(view, "room") else context
        if room < 1:
            raise BadInput(f"view: {type(view).__name__} leaves no room in rows of {context} tokens; raise context")
        lengths = np.maximum(shards.lengths - 1, 0)  # the first token of a document is never a target
        self.pool = Pool(lengths, room, *shards.domains())
        self.state: Any = None
        self.documents: list[int] = []
        self.whole: list[Batch] = []

    @property
    def lengths(self) -> np.ndarray:
        """Inputs of each document."""
        return self.pool.lengths

    def order(self) -> str:
        """The order that a place in the text belongs to: documents in rows of a length, by a batching and a stream of randomness."""
        pool, told = self.pool, sha256(np.ascontiguousarray(self.pool.lengths, np.int64).tobytes())
        told.update(b"" if pool.domain is None else np.ascontiguousarray(pool.domain, np.int64).tobytes())
        return f"{self.batching!r} of {told.hexdigest()[:32]} in rows of {pool.row} by {self.rng.key!r}"

    def next(self, clock: Clock) -> list[Batch]:
        """The micro-batches of the step that begins at `clock`: of this rank's rows, as many as every other rank's."""
        rows, (at, of) = self.plan(clock), self.part
        self.documents = sorted({document for row in rows for document, _, _ in row})
        uneven, each = getattr(self.batching, "uneven", False), -(-len(rows) // of)
        own = slice(at * each, (at + 1) * each)
        seen = [self.views(row, clock) for row in (rows if uneven or self.looks else rows[own])]
        long = max(map(extent, seen)) if uneven else self.context
        laid = [lay(views, long) for views in seen]
        self.whole = [stack(laid)] if self.looks else []
        laid = laid[own] if uneven or self.looks else laid
        laid += [lay([], long) for _ in range(each - len(laid))]
        micro = self.micro
        if uneven or of > 1:
            micro = micro_rows(each, max(1, self.micro * self.context // max(1, long)), long)
        return [stack(laid[i : i + micro]) for i in range(0, len(laid), micro)]

    def plan(self, clock: Clock) -> list[list[tuple[int, int, int]]]:
        """The pieces of the step at `clock`, as many rows as without the view's marks; the feed moves on by that step."""
        if self.pool.row != self.context:
            clock = replace(clock, batch=max(1, clock.batch // self.context) * self.pool.row)
        rows, self.state = self.batching.plan(self.pool, self.state, clock, self.rng)
        return rows

    def views(self, row: Iterable[tuple[int, int, int]], clock: Clock) -> list[dict[str, Any]]:
        """What each piece of a row trains on; trainable token k of a document is its token k + 1."""
        seen = []
        for document, start, stop in row:
            ids = self.shards.piece(document, start, stop + 1)
            rng = self.rng.child("view", clock.step, document, start)
            seen += self.view.view(ids, self.marked(document, start, len(ids)), self.vocab, clock, rng)
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


def enough(view: View, spare: int | None) -> None:
    """BadInput for a view with more marks than the vocabulary has spare tokens (None: not known yet)."""
    if spare is not None and (marks := getattr(view, "marks", 0)) > spare:
        mend = f"say `spare: {marks}` or more at the tokenize step"
        raise BadInput(f"view: {type(view).__name__} needs {marks} spare tokens and the vocabulary has {spare}; {mend}")


def extent(views: Sequence[dict[str, Any]]) -> int:
    """Tokens that views take side by side."""
    return sum(len(view["inputs"]) for view in views)


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


def micro_rows(rows: int, wish: int, context: int, tokens: int = 4096) -> int:
    """Rows of a micro-batch: a divisor of the step's rows, so that every micro-batch has the same shape.

    At most `wish`, or with 0 as many as hold about `tokens`: more cost memory, and speed, since what a layer makes leaves the cache.
    """
    most = wish or max(1, tokens // context)
    return max(n for n in range(1, rows + 1) if rows % n == 0 and n <= most)
