from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bloomery.core.rng import torch_rng
from bloomery.seams import Rng, Site


@dataclass(frozen=True)
class SLTrain:
    """Every linear of the blocks is a low-rank product plus a sparse matrix whose places are drawn at random and stay.

    P101 Han et al. 2024, arXiv 2406.02214
    Differs: unless told, it begins as the best product of the weights that the init gave, the sparse values as what it lacks there (after
    the first hundred steps the paper's beginning, whose outputs are near zero, is still far behind); matrices that our blocks fuse
    (queries, keys and values; gate and up) are one matrix; decay falls on the factors; places take 32 bits instead of 64.
    Costs: rank x (inputs + outputs) + density x inputs x outputs numbers for each matrix instead of inputs x outputs, with 4 bytes more
    for each place; the dense weight is built in the forward pass and again in the backward pass, and is not kept between them.
    """

    rank: int = 32  # of the product
    density: float = 0.03  # share of the numbers of a matrix that the sparse part holds
    alpha: float = 32.0  # the product is multiplied by alpha / rank
    spectral: bool = True  # begin near the weights that the init gave; false: the paper's B = 0, A and the sparse values uniform
    site = "linear"
    space = {"rate": (5e-4, 1e-2), "rank": [16, 32, 64], "density": [0.01, 0.03, 0.1]}

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, got {self.rank}")
        if not 0 < self.density < 1:
            raise ValueError(f"density must be between 0 and 1, got {self.density}")
        if self.alpha <= 0:
            raise ValueError(f"alpha must be above 0, got {self.alpha}")

    @torch.no_grad()
    def build(self, cfg: Any, site: Site, old: nn.Module, rng: Rng) -> nn.Module:
        """The sum, at places drawn without replacement; ValueError where `old` is no plain linear."""
        if type(old) is not nn.Linear:
            raise ValueError(f"it is a {type(old).__name__} and no plain linear")
        w_OI, scale, generator = old.weight.float(), self.alpha / self.rank, torch_rng(rng)
        (rows, columns), bound = w_OI.shape, w_OI.shape[1] ** -0.5
        places_N = torch.randperm(rows * columns, generator=generator)[: max(1, int(self.density * rows * columns))].sort().values
        if self.spectral:
            u_OK, s_K, v_KI = torch.linalg.svd(w_OI, full_matrices=False)
            rank, root_K = min(self.rank, len(s_K)), (s_K / scale).sqrt()
            a_RI, b_OR = root_K[:rank, None] * v_KI[:rank], u_OK[:, :rank] * root_K[:rank]
            values_N = (w_OI - scale * b_OR @ a_RI).flatten()[places_N]
        else:
            a_RI = torch.empty(min(self.rank, rows, columns), columns).uniform_(-bound, bound, generator=generator)
            b_OR = torch.zeros(rows, len(a_RI))
            values_N = torch.empty(len(places_N)).uniform_(-bound, bound, generator=generator)
        parts = (t.to(old.weight).contiguous() for t in (a_RI, b_OR, values_N))
        return _Sum(*parts, places_N.int().to(old.weight.device), scale, old.bias)

    def export(self, m: nn.Module) -> nn.Module:
        """One linear with the sum as its weight."""
        return m.plain()


def dense(a_RI: Tensor, b_OR: Tensor, values_N: Tensor, places_N: Tensor, scale: float) -> Tensor:
    """(O, I): the scaled product with the values added at their places, which count row by row."""
    w_OI = (b_OR * scale) @ a_RI
    w_OI.view(-1).index_add_(0, places_N, values_N.to(w_OI.dtype))
    return w_OI


class _Rebuilt(torch.autograd.Function):
    """x W^T that keeps the parts of W for the backward pass, not W."""

    @staticmethod
    def forward(ctx: Any, x_NI: Tensor, a_RI: Tensor, b_OR: Tensor, values_N: Tensor, places_N: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(x_NI, a_RI, b_OR, values_N, places_N)
        ctx.scale = scale
        return x_NI @ dense(a_RI, b_OR, values_N, places_N, scale).t()

    @staticmethod
    def backward(ctx: Any, g_NO: Tensor) -> tuple[Tensor | None, ...]:
        x_NI, a_RI, b_OR, values_N, places_N = ctx.saved_tensors
        gx_NI = g_NO @ dense(a_RI, b_OR, values_N, places_N, ctx.scale)
        gw_OI = g_NO.t() @ x_NI
        return gx_NI, ctx.scale * (b_OR.t() @ gw_OI), ctx.scale * (gw_OI @ a_RI.t()), gw_OI.view(-1)[places_N], None, None


class _Sum(nn.Module):
    """y = W x with W = scale b a + sparse. Shapes: I inputs, O outputs, R rank, N numbers of the sparse part."""

    def __init__(self, a_RI: Tensor, b_OR: Tensor, values_N: Tensor, places_N: Tensor, scale: float, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.in_features, self.out_features, self.scale = a_RI.shape[1], b_OR.shape[0], scale
        self.a, self.b, self.values, self.bias = nn.Parameter(a_RI), nn.Parameter(b_OR), nn.Parameter(values_N), bias
        self.register_buffer("places", places_N)

    def forward(self, x: Tensor) -> Tensor:
        y_NO = _Rebuilt.apply(x.reshape(-1, self.in_features), self.a, self.b, self.values, self.places, self.scale)
        y = y_NO.view(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias

    @torch.no_grad()
    def plain(self) -> nn.Linear:
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        linear.weight, linear.bias = nn.Parameter(dense(self.a, self.b, self.values, self.places, self.scale)), self.bias
        return linear
