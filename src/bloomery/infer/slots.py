"""The key-value cache of a running batch, in pages: rows of unequal length that come and go between steps.

The rows in use are always the first ones; a row that leaves is replaced by the last one. The tensors are those of infer/cache.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from bloomery.infer.cache import Memory
from bloomery.infer.codes import FEW
from bloomery.infer.pages import FIRST, NOTHING, PAGE, SCRATCH, Lease, Pages
from bloomery.nn.config import Config

ROUND = 2  # a step sees pages up to a multiple of this, so that sums keep their order
PORTION = 512  # prompt tokens read between two steps: a long prompt does not hold up those who are being served
CHUNK = 128  # of them, those read in one pass where nothing may depend on company: a prompt is always cut at the same places


class Slots:
    """Keys and values of up to `rows` sequences of up to `slots` tokens, in `pages` pages in all (0: as many as all rows may need).

    A sequence begins with `open`, its prompt is read through a `Reading`, and `join` takes it into the batch. A step is `begin`, any number
    of networks each with a `Step` of its own, and `end`. With `exact` the numbers of a row are the same to the last bit alone and in
    company, but for a model with experts, which costs a lone row up to half its speed. Beginnings are shared
    unless a layer sees a window; where all do, pages that no window reaches are given back. `also` are the shapes and types of further
    networks of the same tokens.
    """

    @torch.inference_mode(False)
    def __init__(
        self, cfg: Config, rows: int, slots: int, dtype: torch.dtype, device: Any = "cpu", exact: bool = True, pages: int = 0,
        share: bool = True, also: Sequence[tuple[Config, torch.dtype]] = (),
    ) -> None:  # fmt: skip
        self.least, cfgs = FEW if exact else 1, [cfg, *(other for other, _ in also)]
        self.rows, self.slots, self.exact = rows, slots, exact
        held, per_row = max(rows, self.least), -(-slots // PAGE)
        grain = 0 if not share or any(one.windows for one in cfgs) else math.lcm(CHUNK, PAGE) if exact else PAGE
        windows = [one.window(layer) for one in cfgs for layer in range(one.layers)]
        self.reach = max(windows) if all(windows) else 0
        self.book = Pages(FIRST + (pages or rows * per_row), grain, self._wipe)
        self.memories = [Memory(one, self.book.count, slots, kind, device) for one, kind in ((cfg, dtype), *also)]
        self.leases: list[Lease] = []  # of the rows in use
        self.lengths: list[int] = []
        self.table = torch.full((held, per_row + ROUND), NOTHING, dtype=torch.int64, device=device)
        self.table[:, 0] = SCRATCH
        self.next = torch.zeros(held, dtype=torch.int64, device=device)  # where each row's next token goes
        self._wipe([NOTHING, SCRATCH])

    def _wipe(self, pages: list[int]) -> None:
        for one in self.memories:
            one.wipe(pages)

    @property
    def memory(self) -> Memory:
        """That of the first network."""
        return self.memories[0]

    @property
    def nbytes(self) -> int:
        """Bytes of the pages that were ever used."""
        return sum(one.page_bytes for one in self.memories) * self.book.touched

    @property
    def most(self) -> int:
        """Bytes of all pages."""
        return sum(one.page_bytes for one in self.memories) * self.book.count

    @property
    def room(self) -> int:
        """Rows that are free."""
        return self.rows - len(self.lengths)

    @property
    def stepping(self) -> int:
        """Rows that a step's tokens must have: those in use, then idle ones whose result means nothing."""
        return max(len(self.lengths), self.least)

    # ---- sequences ----------------------------------------------------------------------------------------------------------

    def open(self, ids: Sequence[int], tokens: int) -> Lease | None:
        """A lease for a prompt and what will follow it, `tokens` in all; `lease.shared` of the prompt need no reading. None: no room."""
        most = -(-(self.reach + PORTION) // PAGE) + 2 if self.reach else None
        return self.book.open(ids, min(tokens, self.slots), most)

    def join(self, lease: Lease, length: int) -> int:
        """Takes a sequence whose first `length` tokens were read into the batch; returns its row. ValueError where there is none."""
        if not self.room:
            raise ValueError(f"all {self.rows} rows are in use")
        row = len(self.lengths)
        self.leases.append(lease)
        self.lengths.append(length)
        self.next[row] = length
        self._fill(row)
        return row

    def _fill(self, row: int) -> None:
        pages = self.leases[row].pages
        self.table[row] = NOTHING
        self.table[row, : len(pages)] = torch.tensor(pages, dtype=torch.int64)

    def leave(self, row: int, ids: Sequence[int] = ()) -> int:
        """Frees a row, of whose tokens `ids` may be shared; the last row moves to its place. Returns the number which that one had."""
        last = len(self.lengths) - 1
        self.book.remember(self.leases[row], ids, min(len(ids), self.lengths[row]))
        self.book.close(self.leases[row])
        self.leases[row], self.lengths[row] = self.leases[last], self.lengths[last]
        self.leases.pop()
        self.lengths.pop()
        self.table[row], self.next[row] = self.table[last], self.next[last].clone()
        self.table[last] = NOTHING
        self.table[last, 0], self.next[last] = SCRATCH, 0
        return last

    def back(self, row: int, tokens: int) -> None:
        """Forgets the newest tokens of a row."""
        self.lengths[row] -= tokens
        self.next[row] -= tokens

    def clear(self) -> None:
        """Frees all rows and forgets all pages, whatever state a failed step left them in."""
        self.leases, self.lengths = [], []
        self.book.clear()
        self._wipe([NOTHING, SCRATCH])
        self.table.fill_(NOTHING)
        self.table[:, 0] = SCRATCH
        self.next.zero_()

    # ---- steps --------------------------------------------------------------------------------------------------------------

    def begin(self, length: int) -> int:
        """Makes room for `length` new tokens in every row in use; returns the pages that a step sees. ValueError for too many, or none."""
        longest = max(self.lengths, default=0)
        if not 0 < length <= PAGE or not self.lengths or longest + length > self.slots:
            raise ValueError(f"{length} tokens for each of {len(self.lengths)} rows of {self.slots} slots do not fit after {longest}")
        for row, (lease, had) in enumerate(zip(self.leases, self.lengths, strict=True)):
            if had + length > len(lease.pages) * PAGE:
                self.book.take(lease, had + length)
                if self.reach:
                    self.book.shed(lease, had + 1 - self.reach)
                self._fill(row)
        return -(-(longest + length) // (PAGE * ROUND)) * ROUND

    def end(self, length: int) -> None:
        """Counts the new tokens of every row in use."""
        self.next[: len(self.lengths)] += length
        self.lengths = [one + length for one in self.lengths]
