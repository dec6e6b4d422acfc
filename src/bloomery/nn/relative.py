"""Positions as something added to the scores of attention: a learned number for every distance, or a slope.

Shapes: T tokens, H heads, R buckets of distances.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bloomery.nn.config import Config


class Relative(nn.Module):
    """A learned number for each head and each bucket of distances; Raffel et al. 2020, arXiv 1910.10683."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.farthest, self.causal = cfg.relative_distance, cfg.causal
        self.table = nn.Embedding(cfg.relative_buckets, cfg.heads)

    def forward(self, length: int) -> Tensor:
        """What is added to the scores, (H, T, T): queries, then keys."""
        order = torch.arange(length, device=self.table.weight.device)
        away = order[None, :] - order[:, None]
        return self.table(buckets(away, self.table.num_embeddings, self.farthest, self.causal)).permute(2, 0, 1)


def buckets(away_TT: Tensor, count: int, farthest: int, causal: bool) -> Tensor:
    """The bucket of each distance (key minus query): one for each of the near ones, wider and wider ones up to `farthest`, then the last.

    Causal attention has them for keys before the query; otherwise one half is for keys after it.
    """
    found = torch.zeros_like(away_TT)
    if causal:
        away = -away_TT.clamp(max=0)
    else:
        count //= 2
        found, away = (away_TT > 0).long() * count, away_TT.abs()
    near = count // 2
    share = torch.log(away.clamp(min=1).float() / near) / math.log(farthest / near)
    wide = (near + (share * (count - near)).long()).clamp(max=count - 1)
    return found + torch.where(away < near, away, wide)


def slopes(heads: int) -> list[float]:
    """How much a head's scores sink with each position; Press et al. 2021, arXiv 2108.12409."""
    power = 2 ** math.floor(math.log2(heads))
    first = [2.0 ** (-8.0 * (i + 1) / power) for i in range(power)]
    return first + [2.0 ** (-4.0 * (2 * i + 1) / power) for i in range(heads - power)]


def alibi(heads: int, length: int, device: torch.device) -> Tensor:
    """What is added to the scores, (H, T, T)."""
    order = torch.arange(length, device=device, dtype=torch.float32)
    return -torch.tensor(slopes(heads), device=device)[:, None, None] * (order[:, None] - order[None, :]).abs()
