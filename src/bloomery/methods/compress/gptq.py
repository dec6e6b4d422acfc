"""Rounding weights column by column, the error of each made good by the columns after it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from bloomery.nn.packed import Packed, Quantized
from bloomery.num.grids import Fitted, Grid, inverse
from bloomery.num.hessian import factor, gather, moments, sweep


@dataclass(frozen=True)
class GPTQ:
    """Round column by column, and let the columns still open make good what each rounding does to the layer's output.

    P239 Frantar et al. 2022, arXiv 2210.17323
    Differs: a column that no input reached keeps its rounded weight rather than 0; damping is raised until the Hessian can be
    factored; with order "activation" scales are fixed beforehand, so codes stay in place and need no permutation.
    Costs: X^T X of every layer's inputs, I^3 for its factor, O x I^2 for the columns; one matrix (I, I) in fp32 at a time.
    """

    bits: int = 4  # of a weight, 2 to 8
    group: int = 32  # inputs that share a scale; -1 = all; where it does not divide the inputs, the last group is narrower
    symmetric: bool = True  # zero at code 0; false stores a zero for each group
    search: int = 0  # narrower ranges tried for each group, for the least squared error; 0 = none
    damp: float = 0.01  # added to the Hessian's diagonal, as a share of its mean
    order: Literal["activation", "plain"] = "activation"  # columns with the largest inputs first, or from left to right
    block: int = 128  # columns after which the rest of the matrix is brought up to date
    precision: Literal["float32", "bfloat16"] = "float32"  # of the factors of X^T X; bfloat16 is faster where it is in hardware
    keep_zeros: bool = False  # weights that are zero stay so, and their codes are not stored: for models that were pruned before
    reads: ClassVar[tuple[str, ...]] = ("x",)

    def __post_init__(self) -> None:
        self.grid  # noqa: B018 - its knobs are checked when it is made
        if self.damp <= 0 or self.block < 1:
            raise ValueError(f"damp must be above 0 and block at least 1, got {self.damp} and {self.block}")

    @property
    def grid(self) -> Grid:
        """The grids that weights are rounded to."""
        return Grid(self.bits, self.group, self.symmetric, self.search)

    def collect(self, acc: dict[str, Any], x: Tensor, y: Tensor | None, g: Tensor | None) -> None:
        """Adds inputs `x` (rows, I) to the running mean of X^T X, in fp32."""
        gather(acc, x, self.precision)

    @torch.no_grad()
    def solve(self, unit: nn.Linear, acc: dict[str, Any], knobs: dict[str, Any], fit: Any, tail: Any) -> Quantized:
        """The linear on its grid; ValueError where no input was collected or an input was not finite."""
        own: GPTQ = replace(self, **knobs)
        w_OI, first = unit.weight.float(), own.order == "activation"
        codes, (scale, zero) = gptq(w_OI, moments(acc, "gptq"), own.grid, own.damp, first, own.block, own.keep_zeros)
        small = Packed(codes, scale, zero, own.bits, own.grid.width(codes.shape[1]), method="gptq")
        return Quantized(small.thin() if own.keep_zeros else small, unit.bias, unit.weight.dtype)


def gptq(
    w_OI: Tensor, hessian_II: Tensor, grid: Grid, damp: float = 0.01, activation: bool = True, block: int = 128, keep_zeros: bool = False
) -> tuple[Tensor, Fitted]:
    """int8 codes (O, I) and their scales for a weight whose inputs have the second moments `hessian_II`; computed in the weight's type."""
    columns, width = w_OI.shape[1], grid.width(w_OI.shape[1])
    importance = hessian_II.diagonal().clone()
    order = importance.argsort(descending=True, stable=True) if activation else torch.arange(columns, device=w_OI.device)
    u_II = factor(hessian_II[order][:, order].to(w_OI.dtype), damp)
    w_IO, places = w_OI.T[order].contiguous(), order.tolist()
    codes_IO, there_IO = torch.empty_like(w_IO, dtype=torch.int8), w_IO != 0 if keep_zeros else None
    step = columns if width == columns else max(width, block // width * width)  # a group is never cut by a block
    step = block if activation else step  # with scales known beforehand it may be
    found = [grid.fit(w_OI)] if activation else []
    scale_GO, inverse_GO, zero_GO = lines(found[0], w_OI.dtype) if activation else (None, None, None)

    def settle(j: int, w_O: Tensor) -> Tensor:
        nonlocal scale_GO, inverse_GO, zero_GO
        if not activation and places[j] % width == 0:  # the group's scales are taken from its weights as they now are
            found.append(grid.fit(w_IO[j : j + width].T))
            scale_GO, inverse_GO, zero_GO = lines(found[-1], w_OI.dtype)
        at = places[j] // width if activation else 0
        zero = None if zero_GO is None else zero_GO[at]
        codes = grid.codes(w_O, inverse_GO[at], zero)
        if there_IO is not None:
            codes = torch.where(there_IO[j], codes, 0 if zero is None else zero)
        codes_IO[j] = codes
        return grid.value(codes, scale_GO[at], zero)

    sweep(w_IO, u_II, settle, step)
    codes_OI = torch.empty_like(codes_IO).index_copy_(0, order, codes_IO).T.contiguous()
    scale, zero = (torch.cat(parts, dim=1) if parts[0] is not None else None for parts in zip(*found, strict=True))
    return codes_OI, (scale, zero)


def lines(fitted: Fitted, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor | None]:
    """Scale, its inverse and zero, a group to a row."""
    scale, zero = fitted
    scale_GO = scale.T.contiguous().to(dtype)
    return scale_GO, inverse(scale_GO, dtype), None if zero is None else zero.T.contiguous().to(dtype)
