"""The key-value cache of a running batch: rows of unequal length, each with its own next slot, that come and go between steps.

Shapes: L layers, B rows, K key heads, S slots, E head width, G query heads per key head. The rows in use are always the first
ones, so a step reads views; a row that leaves is replaced by the last one. Everything is allocated once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from bloomery.infer.cache import Cache
from bloomery.nn.config import Config
from bloomery.nn.rotary import turns, widen

ROUND = 32  # a step sees slots up to a multiple of this: its views are made anew only every so often, and sums keep their order
EXACT = 4  # rows in a step at least, idle ones among them, where nothing may depend on company: fewer are summed in another order


class Slots:
    """Keys and values of up to `rows` sequences of up to `slots` tokens; `lengths` are those of the rows in use.

    A network steps all rows in use by one token with `net(tokens_B1, cache=slots)`. A row begins in `reader`, an ordinary cache of
    one row, into which its prompt is read (in portions, if wanted), and `join` takes it over. With `exact` the numbers of a row
    are the same to the last bit alone and in company (seen with MKL in fp32; other kernels promise nothing), which costs a lone
    row up to half its speed.
    """

    fresh = False

    def __init__(self, cfg: Config, rows: int, slots: int, dtype: torch.dtype, device: Any = "cpu", exact: bool = True) -> None:
        self.least = EXACT if exact else 1
        held = max(rows, self.least)
        shape = (cfg.layers, held, cfg.kv_heads, slots, cfg.head_width)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.reader = Cache(cfg, slots, [0], dtype, device)
        self.rows, self.slots, self.lengths = rows, slots, []
        self.cos = self.sin = self.positions = self.mask = self.documents = None
        self._next = torch.zeros(held, 1, dtype=torch.int64, device=device)  # where each row's next token goes
        self._hidden = torch.full((held, slots), float("-inf"), dtype=dtype, device=device)  # added to scores
        self._first = slots * torch.arange(held * cfg.kv_heads, device=device).view(held, -1)  # of each row's heads, when laid flat
        self._flat = [(k.view(-1, cfg.head_width), v.view(-1, cfg.head_width)) for k, v in zip(self.keys, self.values, strict=True)]
        self._order = torch.arange(slots, device=device)[None]
        table = None if cfg.positions != "rotary" else widen(*turns(cfg, self._order))
        self._turns = table and torch.stack([one[0] for one in table], dim=1)  # (S, 2, 1, E): a step looks both up at once
        self.masks: dict[int, Tensor] = {}  # of layers that see a window, by its length
        self._windows = set(cfg.windows) - {0}
        self._seen = (0, 0)

    @property
    def room(self) -> int:
        """Rows that are free."""
        return self.rows - len(self.lengths)

    @property
    def stepping(self) -> int:
        """Rows that a step's tokens must have: those in use, then idle ones whose result means nothing."""
        return max(len(self.lengths), self.least)

    def begin(self) -> None:
        """Empties the reader."""
        self.reader.used = 0

    def join(self) -> int:
        """Takes the reader's row into the batch; returns its number. ValueError where there is no room."""
        if not self.room:
            raise ValueError(f"all {self.rows} rows are in use")
        row, length = len(self.lengths), self.reader.used
        self.keys[:, row, :, :length] = self.reader.keys[:, 0, :, :length]
        self.values[:, row, :, :length] = self.reader.values[:, 0, :, :length]
        self._hidden[row, :length] = 0
        self._next[row] = length
        self.lengths.append(length)
        return row

    def leave(self, row: int) -> int:
        """Frees a row and wipes it; the last row moves to its place. Returns the number which that one had."""
        last = len(self.lengths) - 1
        length = self.lengths.pop()
        if row != last:
            for whole in (self.keys, self.values):
                whole[:, row, :, length : self.lengths[row]] = 0
                whole[:, row, :, :length] = whole[:, last, :, :length]
            self._hidden[row], self._next[row], self.lengths[row] = self._hidden[last], self._next[last], length
        self._next[last] = 0
        # what is hidden still takes part with weight 0, which is harmless for numbers, yet not for an overflow's infinity
        self.keys[:, last, :, :length] = 0
        self.values[:, last, :, :length] = 0
        self._hidden[last] = float("-inf")
        return last

    def clear(self) -> None:
        """Frees all rows, whatever state a failed step left them in."""
        self.lengths = []
        self.keys.zero_()
        self.values.zero_()
        self._next.zero_()
        self._hidden.fill_(float("-inf"))

    @contextmanager
    def opened(self, length: int) -> Iterator[None]:
        """Makes ready for one new token in every row in use; ValueError for more, for none, or where a row is full."""
        used, rows = len(self.lengths), self.stepping
        if length != 1 or not used or max(self.lengths) == self.slots:
            raise ValueError(f"one token for each of {used} rows of {self.slots} slots, not {length} after {max(self.lengths, default=0)}")
        end = min(-(-(max(self.lengths) + 1) // ROUND) * ROUND, self.slots)
        if self._seen != (rows, end):
            self._seen = (rows, end)
            self._all = list(zip(*(whole[:, :rows, :, :end].unbind() for whole in (self.keys, self.values)), strict=True))
        self.positions = self._next[:rows]
        if self._turns is not None:
            self.cos, self.sin = self._turns[self.positions].unbind(2)
        self.mask = self._hidden[:rows].scatter_(1, self.positions, 0.0)[:, None, None, :end]
        for window in self._windows:
            far = self._order[:, :end] <= self.positions - window
            self.masks[window] = self.mask.masked_fill(far[:, None, None], float("-inf"))
        self._at = (self._first[:rows] + self.positions).flatten()
        yield
        self.positions[:used] += 1
        self.lengths = [one + 1 for one in self.lengths]

    def write(self, layer: int, k_B1KE: Tensor, v_B1KE: Tensor) -> tuple[Tensor, Tensor]:
        """Puts the new keys and values into their slots; returns all of the layer so far, (B, K, S, E) each."""
        keys, values = self._flat[layer]
        keys.index_copy_(0, self._at, k_B1KE.reshape(-1, keys.shape[1]))
        values.index_copy_(0, self._at, v_B1KE.reshape(-1, values.shape[1]))
        return self._all[layer]
