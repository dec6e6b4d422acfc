"""The tensors behind a paged key-value cache, and what a network sees of them in a step and while it reads prompts.

Shapes: B rows, T new tokens of each row, H query heads, K key heads, G query heads per key head, E head width, P tokens of a page, N pages
of the longest row, S = N x P. Keys and values are one tensor (pages, K, P, E) a layer. A tensor's memory comes into being as its pages
are first written, so a cache takes only what its texts fill.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bloomery.infer.columns import attend_chosen, shown
from bloomery.infer.hiding import Hide, hidden
from bloomery.infer.pages import PAGE, Lease
from bloomery.nn.attention import attend, attend_cached, fused, visible
from bloomery.nn.config import Config
from bloomery.nn.rotary import turns, widen

if TYPE_CHECKING:
    from bloomery.infer.minference import SparsePrefill
    from bloomery.infer.slots import Slots

FAR = 1 << 60  # a window that everything is within
SKIPS = 512  # tokens from which on keys that are hidden from heads are passed over: below, masked scores take less time


def page_bytes(cfg: Config, dtype: torch.dtype) -> int:
    """Bytes of a page with the keys and values of all layers."""
    return 2 * cfg.layers * cfg.kv_heads * PAGE * cfg.head_width * dtype.itemsize


class Memory:
    """The pages of one network, as many as `count`, for sequences of up to `slots` tokens."""

    def __init__(self, cfg: Config, count: int, slots: int, dtype: torch.dtype, device: Any = "cpu") -> None:
        shape = (count, cfg.kv_heads, PAGE, cfg.head_width)
        self.keys, self.values = ([torch.empty(shape, dtype=dtype, device=device) for _ in range(cfg.layers)] for _ in range(2))
        self.cfg, self.dtype, self.heads = cfg, dtype, torch.arange(cfg.kv_heads, device=device)
        table = None if cfg.positions != "rotary" else widen(*turns(cfg, torch.arange(slots, device=device)[None]))
        self.turns = table and torch.stack([one[0] for one in table], dim=1)  # (slots, 2, 1, E): a step looks both up at once
        self.page_bytes = page_bytes(cfg, dtype)
        self.last = cfg.context - 1 if cfg.positions == "learned" else slots - 1  # positions after it are asked for by no one who counts

    def turned(self, positions_BT: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Cosine and sine of positions, (B, T, 1, E) each; None where nothing is rotated."""
        return (None, None) if self.turns is None else self.turns[positions_BT].unbind(2)

    def hidden(self, seen: Tensor) -> Tensor:
        """(B, T, S) bool as what is added to scores, (B, 1, T x G, S)."""
        group = self.cfg.heads // self.cfg.kv_heads
        hidden = torch.zeros(seen.shape, dtype=self.dtype, device=seen.device).masked_fill_(~seen, float("-inf"))
        return (hidden if seen.shape[1] == 1 else hidden.repeat_interleave(group, dim=1))[:, None]

    def wipe(self, pages: list[int]) -> None:
        """Zeros in pages."""
        which = torch.tensor(pages, device=self.heads.device)
        for one in (*self.keys, *self.values):
            one.index_fill_(0, which, 0.0)

    def place(self, page_BT: Tensor, slot_BT: Tensor, table_BN: Tensor | None) -> None:
        """Where the next `write` puts tokens, and which pages it returns."""
        K = len(self.heads)
        self._at = ((page_BT[..., None] * K + self.heads) * PAGE + slot_BT[..., None]).flatten()
        if table_BN is not None:
            self._shape = (len(table_BN), K, -1)
            self._read = (table_BN[:, None] * K + self.heads[:, None]).flatten()

    def put(self, layer: int, k_BTKE: Tensor, v_BTKE: Tensor) -> None:
        """Keys and values into their places."""
        for whole, new in ((self.keys[layer], k_BTKE), (self.values[layer], v_BTKE)):
            flat = whole.view(-1, whole.shape[-1])
            flat.index_copy_(0, self._at, new.reshape(-1, flat.shape[1]))

    def write(self, layer: int, k_BTKE: Tensor, v_BTKE: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and all of every row so far, (B, K, S, E) each."""
        self.put(layer, k_BTKE, v_BTKE)
        return tuple(self._gathered(whole, self._read, self._shape) for whole in (self.keys[layer], self.values[layer]))

    def _gathered(self, whole: Tensor, read: Tensor, shape: tuple[int, int, int]) -> Tensor:
        E = whole.shape[-1]
        return whole.view(-1, PAGE * E).index_select(0, read).view(*shape, E)

    def gathered(self, layer: int, pages: Sequence[int]) -> tuple[Tensor, Tensor]:
        """All tokens of a sequence's pages, (1, K, S, E) each."""
        K = len(self.heads)
        read = (torch.tensor(pages, device=self.heads.device)[None] * K + self.heads[:, None]).flatten()
        return tuple(self._gathered(whole, read, (1, K, -1)) for whole in (self.keys[layer], self.values[layer]))


class Step:
    """The cache of a step that `Slots.begin` has made room for, of `length` new tokens in every row, as one network sees it.

    The first of them is `offset` tokens after the newest that count.
    """

    def __init__(self, slots: Slots, memory: Memory, pages: int, length: int = 1, offset: int = 0) -> None:
        self.slots, self.memory, self.pages, self.length, self.offset = slots, memory, pages, length, offset
        self.cos = self.sin = self.positions = None

    @contextmanager
    def opened(self, length: int) -> Iterator[None]:
        """Positions, places and masks; ValueError for another number of tokens."""
        if length != self.length:
            raise ValueError(f"a step of {self.length} tokens for each row, not {length}")
        slots, memory, rows = self.slots, self.memory, self.slots.stepping
        order = torch.arange(max(self.pages * PAGE, length), device=slots.table.device)
        self.positions = slots.next[:rows, None] + order[:length] + self.offset
        self.cos, self.sin = memory.turned(self.positions)
        table = slots.table[:rows, : self.pages]
        memory.place(table.gather(1, self.positions // PAGE), self.positions % PAGE, table)
        away_BTS = self.positions[:, :, None] - order[: self.pages * PAGE]
        self._places = (self.positions, order[None, : self.pages * PAGE])
        self.positions = self.positions.clamp(max=memory.last)
        self.masks = {window: memory.hidden((away_BTS >= 0) & (away_BTS < (window or FAR))) for window in {0, *memory.cfg.windows}}
        yield

    def attend(
        self, layer: int, q_BTHE: Tensor, k_BTKE: Tensor, v_BTKE: Tensor, window: int = 0, cap: float = 0.0, scale: float | None = None,
        weigh: Callable[[Tensor], Tensor] | None = None, hide: Hide | None = None,
    ) -> Tensor:  # fmt: skip
        """Keeps the new keys and values of a layer; the attention of its rows over their pages, (B, T, H x E)."""
        keys, values = self.memory.write(layer, k_BTKE, v_BTKE)
        mask = self.masks[window]
        if hide is not None:
            mask = mask + hidden(hide, *self._places, k_BTKE.shape[2], mask.dtype)
        return attend_cached(q_BTHE, keys, values, mask, cap, scale, weigh)


class Reading:
    """The next tokens of some prompts, all in one row (P118 Zhao et al. 2024, arXiv 2404.09529): a cache for `net(tokens_1T, cache=...)`.

    A part is (lease, start, stop), tokens start..stop of its prompt; what comes before `start` has been read. Each part attends by itself,
    so nothing is padded and no part sees another. `prefill` attends in layers that see all of a text, where a part is long enough for it.
    """

    def __init__(
        self, slots: Slots, parts: Sequence[tuple[Lease, int, int]], memory: Memory | None = None, prefill: SparsePrefill | None = None
    ) -> None:
        self.slots, self.memory, self.parts, self.prefill = slots, memory or slots.memory, parts, prefill
        self.cos = self.sin = self.positions = None
        self.length = sum(stop - start for _, start, stop in parts)

    @contextmanager
    def opened(self, length: int) -> Iterator[None]:
        """Makes ready for all tokens of the parts; ValueError for another number of them."""
        if length != self.length:
            raise ValueError(f"{length} tokens for parts of {self.length} in all")
        slots, memory, device = self.slots, self.memory, self.slots.table.device
        page, position = [], []
        for lease, start, stop in self.parts:
            if slots.reach:  # before more are taken: a lease is promised no pages beside those that its window and one portion fill
                slots.book.shed(lease, start + 1 - slots.reach)
            slots.book.take(lease, stop)
            position += range(start, stop)
            page += [lease.pages[at // PAGE] for at in range(start, stop)]
        self.positions = torch.tensor([position], device=device)
        self.cos, self.sin = memory.turned(self.positions)
        memory.place(torch.tensor([page], device=device), self.positions % PAGE, None)
        self._masks: dict[tuple[int, int, int], Tensor] = {}
        yield

    def _mask(self, start: int, stop: int, window: int, hide: Hide | None, kv_heads: int) -> Tensor:
        """What is added to the scores of a part: made once for all layers, but for what is hidden from heads."""
        which, device = (start, stop, window), self.slots.table.device
        if which not in self._masks:
            self._masks[which] = self.memory.hidden(visible(None, start, stop, device, window))
        if hide is None:
            return self._masks[which]
        order = torch.arange(stop, device=device)[None]
        return self._masks[which] + hidden(hide, order[:, start:], order, kv_heads, self.memory.dtype)

    def attend(
        self, layer: int, q_BTHE: Tensor, k_BTKE: Tensor, v_BTKE: Tensor, window: int = 0, cap: float = 0.0, scale: float | None = None,
        weigh: Callable[[Tensor], Tensor] | None = None, hide: Hide | None = None,
    ) -> Tensor:  # fmt: skip
        """Keeps the new keys and values of a layer; the attention of every part, (1, T, H x E)."""
        self.memory.put(layer, k_BTKE, v_BTKE)
        at, out = 0, []
        for lease, start, stop in self.parts:
            q, k, v = (one[:, at : at + stop - start] for one in (q_BTHE, k_BTKE, v_BTKE))
            at += stop - start
            if self.prefill is not None and self.prefill.wants(stop) and not window and weigh is None and hide is None:
                keys, values = self.memory.gathered(layer, lease.pages[: -(-stop // PAGE)])
                own = (q[0], keys[0, :, :stop], values[0, :, :stop])
                out.append(self.prefill.attend(layer, *own, q.shape[-1] ** -0.5 if scale is None else scale, cap)[None])
            elif hide is not None and weigh is None and stop >= SKIPS:
                keys, values = self.memory.gathered(layer, lease.pages[: -(-stop // PAGE)])
                choose = partial(shown, hide, device=q.device)
                own = (q[0].transpose(0, 1), keys[0, :, :stop], values[0, :, :stop])
                found = attend_chosen(*own, choose, q.shape[-1] ** -0.5 if scale is None else scale, cap)
                out.append(found.transpose(0, 1).flatten(1)[None])
            elif start == 0 and hide is None:
                q = q if weigh is None and fused(None, cap) else q * scale
                out.append(attend(q, k, v, None, True, window, cap, scale, weigh=weigh))
            else:
                keys, values = self.memory.gathered(layer, lease.pages[: -(-stop // PAGE)])
                mask = self._mask(start, stop, window, hide, k.shape[2])
                out.append(attend_cached(q, keys[:, :, :stop], values[:, :, :stop], mask, cap, scale, weigh))
        return out[0] if len(out) == 1 else torch.cat(out, dim=1)
