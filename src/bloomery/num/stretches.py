"""Rows that lie on several ranks, each of which has a stretch of equal length.

Shapes: B rows, T tokens of a row, t = T / n of them in a stretch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from bloomery.seams import Batch


def stretch(batch: Batch, at: int, of: int) -> Batch:
    """The tokens of one of `of` equal stretches of every row."""
    t = batch.inputs.shape[1] // of
    return Batch(**{name: column[:, at * t : (at + 1) * t].contiguous() for name, column in vars(batch).items()})


def gathered(documents_Bt: Tensor, group: Any) -> Tensor:
    """The numbers of documents of whole rows, (B, T)."""
    parts = [documents_Bt.new_empty(documents_Bt.shape) for _ in range(group.size())]
    dist.all_gather(parts, documents_Bt.contiguous(), group=group)
    return torch.cat(parts, dim=1)


def indivisible(cfg: Any, row: int, n: int) -> str:
    """Why rows of so many tokens of a model cannot be cut into `n` stretches, "" where they can; 0 tokens are not known yet."""
    if row % n:
        return f"context {n} does not divide rows of {row} tokens"
    if cfg.encoder_layers or cfg.positions in ("alibi", "relative"):
        return f"context cuts rows, and {'an encoder' if cfg.encoder_layers else cfg.positions + ' positions'} need them whole"
    return ""
