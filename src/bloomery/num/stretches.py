"""Rows that lie on several ranks, each of which has a stretch of equal length.

Shapes: B rows, T tokens of a row, t = T / n of them in a stretch, K key heads, G query heads that share one, E head width, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bloomery.nn.attention import attend
from bloomery.seams import Batch


def stretch(batch: Batch, at: int, of: int) -> Batch:
    """The tokens of one of `of` equal stretches of every row."""
    t = batch.inputs.shape[1] // of
    return Batch(**{name: column[:, at * t : (at + 1) * t].contiguous() for name, column in vars(batch).items()})


def gathered(documents_Bt: Tensor, group: Any) -> Tensor:
    """The numbers of documents of whole rows, (B, T)."""
    return side_by_side(documents_Bt, group)


def crossing(net: nn.Module, mesh: Any, across: Callable[..., Tensor]) -> nn.Module:
    """Let the attention of every block go through `across(q, k, v, documents, *more, group)` while a step is divided over `context`."""
    if mesh.sizes["context"] > 1:
        for block in net.blocks:
            block.mixer.across = partial(_crossing, across=across, mesh=mesh)
    return net


def _crossing(q: Tensor, k: Tensor, v: Tensor, documents: Tensor | None, *more: Any, across: Callable[..., Tensor], mesh: Any) -> Tensor:
    """Outside of a step rows are whole."""
    if not mesh.dividing:
        return attend(q, k, v, documents, *more)
    return across(q, k, v, documents, *more, group=mesh.device_mesh.get_group("context"))


def indivisible(cfg: Any, row: int, n: int, plain: bool = False) -> str:
    """Why rows of so many tokens of a model cannot be cut into `n` stretches, "" where they can; 0 tokens are not known yet. `plain` is
    for methods that make the scores themselves."""
    if plain and cfg.score_cap:
        return "context goes here with plain scores, and this model caps them; ulysses leaves scores as they are"
    if row % n:
        return f"context {n} does not divide rows of {row} tokens"
    if cfg.encoder_layers or cfg.positions in ("alibi", "relative"):
        return f"context cuts rows, and {'an encoder' if cfg.encoder_layers else cfg.positions + ' positions'} need them whole"
    return ""


@dataclass(frozen=True)
class Seen:
    """Which keys of a stretch the queries of stretch `own` may see."""

    documents_BT: Tensor
    t: int
    own: int
    causal: bool
    window: int

    def __call__(self, of: int) -> Tensor | None:
        """bool (B, t, t) of the keys of stretch `of`; None: none of them."""
        if self.causal and of > self.own:
            return None
        place = torch.arange(self.t, device=self.documents_BT.device)
        away = (self.own - of) * self.t + place[:, None] - place[None]
        seen = away >= 0 if self.causal else torch.ones_like(away, dtype=torch.bool)
        if self.window:
            seen = seen & (away.abs() < self.window)
        query, key = (self.documents_BT[:, i * self.t : (i + 1) * self.t] for i in (self.own, of))
        seen = seen & (query[:, :, None] == key[:, None])
        return seen if bool(seen.any()) else None


def masked_scores(q: Tensor, k: Tensor, seen: Tensor) -> Tensor:
    """float32 (B, K, G x t, t), minus infinity where a key is not seen."""
    hidden = ~seen[:, None].repeat(1, 1, q.shape[2] // seen.shape[1], 1)
    return (q.float() @ k.float().transpose(2, 3)).masked_fill(hidden, float("-inf"))


class _Cut(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BTD: Tensor, group: Any) -> Tensor:
        ctx.group = group
        return x_BTD.chunk(group.size(), 1)[group.rank()].contiguous()

    @staticmethod
    def backward(ctx: Any, by_BtD: Tensor) -> tuple[Tensor, None]:
        return side_by_side(by_BtD, ctx.group), None


class _Joined(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BtD: Tensor, group: Any) -> Tensor:
        ctx.group = group
        return side_by_side(x_BtD, group)

    @staticmethod
    def backward(ctx: Any, by_BTD: Tensor) -> tuple[Tensor, None]:
        return by_BTD.chunk(ctx.group.size(), 1)[ctx.group.rank()].contiguous(), None


def cut(x_BTD: Tensor, group: Any) -> Tensor:
    """This rank's stretch of what all ranks of a group have; its gradient is that of all stretches."""
    return _Cut.apply(x_BTD, group)


def joined(x_BtD: Tensor, group: Any) -> Tensor:
    """All stretches, for ranks which then all compute the same: each needs its own part of the gradient alone."""
    return _Joined.apply(x_BtD, group)


def side_by_side(x_BtD: Tensor, group: Any) -> Tensor:
    """The stretches of all ranks, (B, T, D)."""
    parts = [torch.empty_like(x_BtD, memory_format=torch.contiguous_format) for _ in range(group.size())]
    dist.all_gather(parts, x_BtD.contiguous(), group=group)
    return torch.cat(parts, dim=1)
