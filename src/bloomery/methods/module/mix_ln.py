from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bloomery.nn.context import Context
from bloomery.nn.model import Block
from bloomery.seams import Rng, Site


@dataclass(frozen=True)
class MixLN:
    """The first layers normalise after each residual sum (Post-LN), the others before attention and feed-forward (Pre-LN).

    P122 Li et al. 2024, arXiv 2412.13795
    Differs: the share of Post-LN layers is rounded up, where the authors probably round down: another layer where the depth is no
    multiple of 4. The norm after the last layer stays, as in their code.
    Costs: nothing; no format but ours can say it, so such a model is not exported.
    """

    share: float = 0.25  # of the layers that are Post-LN, rounded up
    site = "block"
    space = {"rate": (5e-4, 1e-2), "share": [0.125, 0.25, 0.5]}

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must be between 0 and 1, got {self.share}")

    def build(self, cfg: Any, site: Site, old: nn.Module, rng: Rng) -> nn.Module | None:
        """The same parts in another order, or None for the layers that stay as they are; ValueError for an order of their own."""
        if cfg.norm_order != "pre" or cfg.parallel:
            raise ValueError(f"it is no plain Pre-LN layer ({'parallel' if cfg.parallel else cfg.norm_order})")
        if site.layer >= math.ceil(self.share * site.of - 1e-9):
            return None
        with torch.device("meta"):
            m = _PostBlock(cfg)
        for name, part in old.named_children():
            setattr(m, name, part)
        return m


class _PostBlock(Block):
    """norm(x + f(x)) instead of x + f(norm(x)), for attention and feed-forward."""

    def forward(self, x_BTD: Tensor, ctx: Context) -> Tensor:
        x_BTD = self.mixer_norm(x_BTD + self.mixer(x_BTD, ctx))
        return self.mlp_norm(x_BTD + self.mlp(x_BTD, ctx))

    def step(self, x_BTD: Tensor, layer: int, cache: Any) -> Tensor:
        x_BTD = self.mixer_norm(x_BTD + self.mixer.step(x_BTD, layer, cache))
        return self.mlp_norm(x_BTD + self.mlp(x_BTD))
