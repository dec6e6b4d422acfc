"""Weights and inputs on grids of small floating-point numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from bloomery.nn.packed import Packed, Quantized
from bloomery.num.grids import E2M1, Grid, Levels
from bloomery.num.hessian import factor, gather, moments, sweep


@dataclass(frozen=True)
class ZeroQuantFP:
    """Round weights to 4-bit floats (e2m1) by GPTQ's sweep, and inputs to 8-bit floats (e4m3) with a scale for each token.

    P261 Wu et al. 2023, arXiv 2307.09782
    Differs: constrained scales are rounded up, so that nothing is cut off, and chosen before the sweep; the low-rank compensation is
    `lorc` with this as its inner. No code of the authors was at hand: the two constraints are as the abstract and summaries have them.
    Costs: GPTQ's. Both grids are simulated in fp32: this shows their quality and saves room on disk, not time.
    """

    weights: Literal["fp4", "int4"] = "fp4"  # grid of the weights
    inputs: Literal["fp8", "int8", ""] = "fp8"  # grid of the inputs; "" = as they are
    group: int = 64  # inputs that share a scale; -1 = all; where it does not divide the inputs, the last group is narrower
    scales: Literal["free", "power", "ratio"] = "free"  # power: of two; ratio: a power of two below the row's largest
    damp: float = 0.01  # added to the Hessian's diagonal, as a share of its mean
    precision: Literal["float32", "bfloat16"] = "float32"  # of the factors of X^T X; bfloat16 is faster where it is in hardware
    bits: ClassVar[int] = 4
    reads: ClassVar[tuple[str, ...]] = ("x",)

    def __post_init__(self) -> None:
        self.grid  # noqa: B018 - its knobs are checked when it is made
        if self.damp <= 0:
            raise ValueError(f"damp must be above 0, got {self.damp}")
        if self.weights == "int4" and self.scales != "free":
            raise ValueError(f"scales {self.scales} are for weights fp4, whose products they make cheap, got int4")

    @property
    def grid(self) -> Grid:
        """The grids that weights are rounded to."""
        return Levels(4, self.group, scales=self.scales) if self.weights == "fp4" else Grid(4, self.group)

    def collect(self, acc: dict[str, Any], x: Tensor, y: Tensor | None, g: Tensor | None) -> None:
        """Adds inputs `x` (rows, I) to the running mean of X^T X, in fp32."""
        gather(acc, x, self.precision)

    @torch.no_grad()
    def solve(self, unit: nn.Linear, acc: dict[str, Any], knobs: dict[str, Any], fit: Any, tail: Any) -> Quantized:
        """The linear on its grids; ValueError where no input was collected or an input was not finite."""
        own: ZeroQuantFP = replace(self, **knobs)
        grid, w_OI = own.grid, unit.weight.float()
        codes_OI, scale_OG = swept(w_OI, moments(acc, "zeroquant_fp"), grid, own.damp)
        small = Packed(
            codes_OI, scale_OG, None, 4, grid.width(w_OI.shape[1]), method="zeroquant_fp",
            levels=E2M1 if own.weights == "fp4" else (), inputs=own.inputs,
        )  # fmt: skip
        return Quantized(small, unit.bias, unit.weight.dtype)


def swept(w_OI: Tensor, hessian_II: Tensor, grid: Grid, damp: float) -> tuple[Tensor, Tensor]:
    """int8 codes (O, I) and scales (O, G) of a grid without zeros, columns of large inputs first."""
    order = hessian_II.diagonal().argsort(descending=True, stable=True)
    u_II = factor(hessian_II[order][:, order].to(w_OI.dtype), damp)
    w_IO, places, width = w_OI.T[order].contiguous(), order.tolist(), grid.width(w_OI.shape[1])
    codes_IO = torch.empty_like(w_IO, dtype=torch.int8)
    scale_OG, _ = grid.fit(w_OI)
    scale_GO = scale_OG.T.contiguous().to(w_OI.dtype)
    inverse_GO = torch.where(scale_GO == 0, 0, 1 / scale_GO)

    def settle(j: int, w_O: Tensor) -> Tensor:
        at = places[j] // width
        codes = grid.codes(w_O, inverse_GO[at], None)
        codes_IO[j] = codes.to(torch.int8)
        return grid.value(codes, scale_GO[at], None)

    sweep(w_IO, u_II, settle, 128)
    return torch.empty_like(codes_IO).index_copy_(0, order, codes_IO).T.contiguous(), scale_OG
