"""Linears of which N of every M weights are in use, chosen anew as training goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bloomery.num.masks import pattern, within_groups
from bloomery.seams import Clock, Rng, Site


@dataclass(frozen=True)
class AdaptiveSparse:
    """Use the N largest of every M weights, chosen anew at every step; all weights learn, and those out of use are pulled to zero.

    P046 Huang et al. 2024, arXiv 2407.20584
    Differs: masks are chosen at every step, where the authors' code does so at every tenth; the pull is a part of the gradient, as in
    SR-STE (Zhou et al. 2021, arXiv 2102.04010), where theirs is added to Adam's first moment; distillation is the loss `distill` with the
    dense model as its teacher; magnitude alone ranks weights.
    Costs: weights and their optimizer state dense while it trains, a sort of every M weights at each step. Weights are turned dense when
    loaded: no speed-up here.
    """

    pattern: str = "2:4"  # that many weights stay of how many in a row
    pull: float = 6e-5  # times a weight that is out of use: added to its gradient
    rise: float = 0.1  # share of the run over which the pull rises from nothing
    shared: int = 0  # inputs in a row whose sum gets a dense weight beside the sparse ones (SLoRB in the paper: 64); 0 = none
    site = "linear"
    space = {"rate": (1e-4, 3e-3), "pull": [2e-5, 6e-5, 2e-4]}

    def __post_init__(self) -> None:
        if pattern(self.pattern) is None:
            raise ValueError("pattern must be like 2:4, fewer weights of more in a row, got nothing")
        if self.pull < 0 or not 0 <= self.rise <= 1 or self.shared < 0:
            raise ValueError(f"pull and shared must not be negative, rise a share, got {self.pull}, {self.shared} and {self.rise}")

    def build(self, cfg: Any, site: Site, old: nn.Module, rng: Rng) -> nn.Module:
        """The same linear with its largest weights in use; ValueError where `old` is no plain linear."""
        if type(old) is not nn.Linear:
            raise ValueError(f"it is a {type(old).__name__} and no plain linear")
        return _Chosen(old, pattern(self.pattern), self.shared)

    def before_step(self, m: nn.Module, clock: Clock, rng: Rng) -> None:
        """The mask is chosen when the step's first forward pass asks for it; the pull is what the clock says."""
        share = min(1.0, clock.tokens / (self.rise * clock.total)) if self.rise and clock.total else 1.0
        m.begin(self.pull * share)

    def export(self, m: nn.Module) -> nn.Module:
        """A linear with its zeros; with `shared`, one that is dense."""
        return m.plain()


class _Chosen(nn.Module):
    """y = (mask W) x + S (sums of x). Shapes: O outputs, I inputs, G groups of inputs that are summed."""

    unsteady = True  # measured with the mask of the weights as they then are

    def __init__(self, old: nn.Linear, kept: tuple[int, int], shared: int) -> None:
        super().__init__()
        self.in_features, self.out_features, self.kept, self.shared = old.in_features, old.out_features, kept, shared
        self.weight, self.bias = old.weight, old.bias
        self.added = None
        if shared:
            with torch.no_grad():  # the mean of the weights that are out of use, so that a group's sum begins with what it lost
                out_OI = self.weight.masked_fill(self.mask(), 0)
                groups = F.pad(out_OI, (0, -self.in_features % shared)).unflatten(1, (-1, shared))
            self.added = nn.Parameter(groups.mean(2))
        self.begin(0.0)

    def begin(self, pull: float) -> None:
        """A step begins: another mask, and the pull once in it, however many micro-batches and ranks share the step."""
        ranks = torch.distributed.get_world_size() if torch.distributed.is_available() and torch.distributed.is_initialized() else 1
        self.chosen: Tensor | None = None
        self.pull = pull / ranks

    def mask(self) -> Tensor:
        """True where a weight is in use."""
        return within_groups(self.weight.detach().abs(), *self.kept)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.chosen = self.mask() if self.chosen is None else self.chosen
            weight = _Straight.apply(self.weight, self.chosen, self)
        else:
            weight = self.weight * self.mask()
        y = F.linear(x, weight, self.bias)
        if self.added is None:
            return y
        sums = F.pad(x, (0, -self.in_features % self.shared)).unflatten(-1, (-1, self.shared)).sum(-1)
        return y + F.linear(sums, self.added)

    @torch.no_grad()
    def plain(self) -> nn.Linear:
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        weight_OI = self.weight * self.mask()
        if self.added is not None:
            weight_OI = weight_OI + self.added.repeat_interleave(self.shared, dim=1)[:, : self.in_features]
        linear.weight, linear.bias = nn.Parameter(weight_OI), self.bias
        return linear


class _Straight(torch.autograd.Function):
    """mask W, whose gradient goes to all of W."""

    @staticmethod
    def forward(ctx: Any, weight_OI: Tensor, mask_OI: Tensor, m: _Chosen) -> Tensor:
        ctx.save_for_backward(weight_OI, mask_OI)
        ctx.m = m
        return weight_OI * mask_OI

    @staticmethod
    def backward(ctx: Any, g_OI: Tensor) -> tuple[Tensor, None, None]:
        weight_OI, mask_OI = ctx.saved_tensors
        pull, ctx.m.pull = ctx.m.pull, 0.0
        return g_OI + pull * weight_OI.masked_fill(mask_OI, 0) if pull else g_OI, None, None
