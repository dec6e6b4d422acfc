"""Rounding weights after the columns of large inputs were made larger."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from bloomery.nn.packed import Packed, Quantized
from bloomery.num.grids import Grid
from bloomery.num.hessian import gather, moments, output_error


@dataclass(frozen=True)
class AWQ:
    """Multiply every column by a power of its input's mean magnitude, round, and divide again: large inputs get finer weights.

    Lin et al. 2023, arXiv 2306.00978
    Differs: the divisor is stored with the linear (float16, one a column) and not folded into what comes before it, so every linear has
    its own; the power is chosen by the error of the linear's own outputs over all inputs, by their second moments, where the authors'
    code takes the outputs of all that reads the input (of attention for queries, keys and values) on some tokens, and tries no power of 1;
    its search for narrower ranges, by outputs and not for queries and keys, is `search` here, by the squares of weights.
    Costs: X^T X of every layer's inputs, and O x I^2 for each power tried.
    """

    bits: int = 4  # of a weight, 2 to 8
    group: int = 32  # inputs that share a scale; -1 = all; where it does not divide the inputs, the last group is narrower
    symmetric: bool = True  # zero at code 0; false stores a zero for each group
    search: int = 0  # narrower ranges tried for each group, for the least squared error; 0 = none
    powers: int = 20  # tried from 0, which is plain rounding, to 1
    precision: Literal["float32", "bfloat16"] = "float32"  # of the factors of X^T X; bfloat16 is faster where it is in hardware
    reads: ClassVar[tuple[str, ...]] = ("x",)

    def __post_init__(self) -> None:
        self.grid  # noqa: B018 - its knobs are checked when it is made
        if self.powers < 1:
            raise ValueError(f"powers must be at least 1, got {self.powers}")

    @property
    def grid(self) -> Grid:
        """The grids that weights are rounded to."""
        return Grid(self.bits, self.group, self.symmetric, self.search)

    def collect(self, acc: dict[str, Any], x: Tensor, y: Tensor | None, g: Tensor | None) -> None:
        """Adds inputs `x` (rows, I) to the running mean of X^T X, and their magnitudes."""
        gather(acc, x, self.precision)
        acc["magnitude"] = acc.get("magnitude", 0) + x.float().abs().sum(0)

    @torch.no_grad()
    def solve(self, unit: nn.Linear, acc: dict[str, Any], knobs: dict[str, Any], fit: Any, tail: Any) -> Quantized:
        """The linear on its grid; ValueError where no input was collected or an input was not finite."""
        own: AWQ = replace(self, **knobs)
        hessian_II, w_OI = moments(acc, "awq"), unit.weight.float()
        best, least = None, torch.inf
        for step in range(own.powers + 1):
            small = scaled(w_OI, divisors(acc["magnitude"], step / own.powers), own.grid, "awq")
            error = float(output_error(small.dense() - w_OI, hessian_II).sum())
            if best is None or error < least:
                best, least = small, error
        return Quantized(best, unit.bias, unit.weight.dtype)


def divisors(magnitude_I: Tensor, power: float) -> Tensor | None:
    """What every column is divided by after rounding, as a factor: magnitude^-power, float16, spread evenly around 1; None for power 0.

    Inputs of no magnitude count as a ten-thousandth of the mean one, and no factor is beyond 1000 of the middle one.
    """
    if power == 0:
        return None
    scale_I = magnitude_I.clamp(min=1e-4 * float(magnitude_I.mean().clamp(min=torch.finfo(torch.float32).tiny))).pow(power)
    return (1 / (scale_I / (scale_I.max() * scale_I.min()).sqrt())).clamp(1e-3, 1e3).half()


def scaled(w_OI: Tensor, factor_I: Tensor | None, grid: Grid, method: str) -> Packed:
    """A weight whose columns are divided by their factors, rounded, and multiplied again."""
    wide_OI = w_OI if factor_I is None else w_OI / factor_I.float()
    fitted = grid.fit(wide_OI)
    codes_OI, width = grid.round(wide_OI, fitted), grid.width(w_OI.shape[1])
    return Packed(codes_OI, *fitted, grid.bits, width, method=method, input_I=factor_I)
