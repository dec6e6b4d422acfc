"""The key-value cache: everything is allocated once, and a step writes one slot per row.

Shapes: L layers, B rows, K key heads, S slots, E head width, G query heads per key head. Rows of unequal length are padded on
the left, so that all rows write the same slot; a row's position is its slot minus its padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from bloomery.infer.hiding import Hide, hidden, same
from bloomery.nn.attention import attend, attend_cached, fused, visible
from bloomery.nn.config import Config
from bloomery.nn.rotary import turns, widen


class Cache:
    """Keys and values of up to `slots` tokens in each row; `padding` counts the slots at the left of each row that hold nothing."""

    def __init__(self, cfg: Config, slots: int, padding: Sequence[int], dtype: torch.dtype, device: str | torch.device = "cpu") -> None:
        shape = (cfg.layers, len(padding), cfg.kv_heads, slots, cfg.head_width)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.slots, self.used, self.group = slots, 0, cfg.heads // cfg.kv_heads
        self.padding = torch.tensor(padding, device=device) if any(padding) else None
        self.learned = cfg.context if cfg.positions == "learned" else 0  # rows of the table of positions; 0: tokens are rotated
        self._order = torch.arange(slots, device=device)[None]
        self._table = (None, None) if cfg.positions != "rotary" else widen(*turns(cfg, self._order))
        self.cos = self.sin = self._table[0]
        self.positions: Tensor | None = None  # of the new tokens, (B or 1, T), where positions are learned
        self.documents: Tensor | None = None  # of the first tokens: 0, and -1 where a row is padded
        self.mask: Tensor | None = None
        self.masks: dict[int, Tensor | None] = {}  # of layers that see a window, by its length
        self._windows = set(cfg.windows) - {0}
        self.fresh = False
        self._hide()

    def _hide(self) -> None:
        """What is added to a step's scores: minus infinity at the padding; (B, 1, 1, S)."""
        self._hidden = None
        if self.padding is not None:
            slot = torch.arange(self.slots, device=self.padding.device)
            hidden = torch.zeros(len(self.padding), self.slots, dtype=self.keys.dtype, device=self.padding.device)
            self._hidden = hidden.masked_fill_(slot < self.padding[:, None], float("-inf"))[:, None, None]

    @contextmanager
    def opened(self, length: int) -> Iterator[None]:
        """Makes ready for `length` new tokens in every row: positions, mask, place; ValueError if they do not fit."""
        end = self.used + length
        if end > self.slots:
            raise ValueError(f"{end} tokens do not fit into a cache of {self.slots} slots")
        self.fresh = self.used == 0 and length > 1
        self._place(end)
        if self.fresh:
            self.documents = None if self.padding is None else self._documents(length)
        elif length == 1:
            self.mask = None if self._hidden is None else self._hidden[..., :end]
        else:
            self.mask = self._causal(end)
        if self._windows and not self.fresh:
            self.masks = {window: self._within(window, length, end) for window in self._windows}
        # views of every layer at once: a step of a small model is mostly the making of views
        self._all_keys, self._all_values = (whole[..., :end, :].unbind() for whole in (self.keys, self.values))
        self._new_keys, self._new_values = (whole[..., self.used : end, :].transpose(2, 3).unbind() for whole in (self.keys, self.values))
        yield
        self.used = end

    def _place(self, end: int) -> None:
        """Where the new tokens stand: cosine and sine, or positions to look up."""
        new = slice(self.used, end)
        position = self._order[:, new]
        if self.padding is not None:
            position = (position - self.padding[:, None]).clamp_(min=0)
        if self.learned:
            last = int(position[:, -1].min())
            if last >= self.learned:
                raise ValueError(f"position {last} is past the {self.learned} positions that the model has learned")
            self.positions = position.clamp(max=self.learned - 1)  # of rows that have ended beside a longer one: no one reads them
        elif self._table[0] is None:
            return
        elif self.padding is None:
            self.cos, self.sin = (table[:, new] for table in self._table)
        else:
            self.cos, self.sin = (table[0][position] for table in self._table)

    def _documents(self, length: int) -> Tensor:
        slot = torch.arange(length, device=self.keys.device)
        return (slot >= self.padding[:, None]).to(torch.int32) - 1

    def _within(self, window: int, length: int, end: int) -> Tensor | None:
        """The mask of layers that see a window; all slots are kept, whether or not a later token sees them."""
        if end <= window:
            return self.mask
        if length > 1:
            return self._causal(end, window)
        far = self._order[:, :end] <= self.used - window
        mask = torch.zeros(far.shape, dtype=self.keys.dtype, device=far.device).masked_fill_(far, float("-inf"))[:, None, None]
        return mask if self._hidden is None else mask + self._hidden[..., :end]

    def _causal(self, end: int, window: int = 0) -> Tensor:
        """The mask of several new tokens after earlier ones: (B or 1, 1, T x G, S)."""
        seen = visible(None, self.used, end, self.keys.device, window).repeat_interleave(self.group, dim=1)
        mask = torch.zeros(seen.shape, dtype=self.keys.dtype, device=seen.device).masked_fill_(~seen, float("-inf"))[:, None]
        return mask if self._hidden is None else mask + self._hidden[..., :end]

    def _shown(self, hide: Hide, length: int, window: int) -> Tensor:
        """The mask of new tokens in a layer that hides keys from heads: (B or 1, K, T x G, S)."""
        end, left = self.used + length, 0 if self.padding is None else self.padding[:, None]
        own = hidden(hide, self._order[:, self.used : end] - left, self._order[:, :end] - left, self.keys.shape[2], self.keys.dtype)
        return self._causal(end, window) + own

    def attend(
        self, layer: int, q_BTHE: Tensor, k_BTKE: Tensor, v_BTKE: Tensor, window: int = 0, cap: float = 0.0, scale: float | None = None,
        weigh: Callable[[Tensor], Tensor] | None = None, hide: Hide | None = None,
    ) -> Tensor:  # fmt: skip
        """Keeps the new keys and values of a layer; its attention, (B, T, H x E): first tokens as in training, others over the slots."""
        self._new_keys[layer].copy_(k_BTKE)
        self._new_values[layer].copy_(v_BTKE)
        if hide is not None:
            mask = self._shown(hide, q_BTHE.shape[1], window)
            return attend_cached(q_BTHE, self._all_keys[layer], self._all_values[layer], mask, cap, scale, weigh or same)
        if self.fresh:
            q_BTHE = q_BTHE if weigh is None and fused(self.documents, cap) else q_BTHE * scale
            return attend(q_BTHE, k_BTKE, v_BTKE, self.documents, True, window, cap, scale, weigh=weigh)
        mask = self.masks[window] if window else self.mask
        return attend_cached(q_BTHE, self._all_keys[layer], self._all_values[layer], mask, cap, scale, weigh)

    def keep(self, rows: Tensor) -> None:
        """Drops all other rows: finished ones cost nothing more."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]
        if self.padding is not None:
            self.padding = self.padding[rows]
            self._hide()
