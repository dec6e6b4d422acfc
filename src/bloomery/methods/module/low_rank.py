from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bloomery.seams import Rng, Site


@dataclass(frozen=True)
class LowRank:
    """Every linear of the blocks is a product of two thin matrices, trained from the start.

    Kamalakara et al. 2022, Exploring Low Rank Training of Deep Neural Networks, arXiv 2209.13569
    Differs: matrices that our blocks fuse (queries, keys and values; gate and up) are one product; decay falls on the factors, not on
    their product.
    Costs: rank x (inputs + outputs) numbers for each matrix instead of inputs x outputs, in optimizer and checkpoint too.
    """

    rank: int = 32  # columns of one factor, rows of the other
    site = "linear"
    space = {"rate": (5e-4, 1e-2), "rank": [16, 32, 64]}

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, got {self.rank}")

    @torch.no_grad()
    def build(self, cfg: Any, site: Site, old: nn.Module, rng: Rng) -> nn.Module:
        """The two factors of the best approximation of `old` (spectral initialization); ValueError where it is no plain linear."""
        if type(old) is not nn.Linear:
            raise ValueError(f"it is a {type(old).__name__} and no plain linear")
        u_OK, s_K, v_KI = torch.linalg.svd(old.weight.float(), full_matrices=False)
        rank, root_K = min(self.rank, len(s_K)), s_K.sqrt()
        return _Product((root_K[:rank, None] * v_KI[:rank]).to(old.weight), (u_OK[:, :rank] * root_K[:rank]).to(old.weight), old.bias)

    def export(self, m: nn.Module) -> nn.Module:
        """One linear with the product as its weight."""
        return m.plain()


class _Product(nn.Module):
    """y = b (a x); shapes: I inputs, O outputs, R rank."""

    def __init__(self, a_RI: Tensor, b_OR: Tensor, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.in_features, self.out_features = a_RI.shape[1], b_OR.shape[0]
        self.a, self.b, self.bias = nn.Parameter(a_RI.contiguous()), nn.Parameter(b_OR.contiguous()), bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.a), self.b, self.bias)

    @torch.no_grad()
    def plain(self) -> nn.Linear:
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        linear.weight, linear.bias = nn.Parameter(self.b @ self.a), self.bias
        return linear
