"""Rounding every weight by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bloomery.nn.packed import Packed, Quantized
from bloomery.num.grids import Grid


@dataclass(frozen=True)
class RTN:
    """Round each weight to the nearest point of its group's grid; no data is looked at.

    standard practice; the baseline of P239 Frantar et al. 2022, arXiv 2210.17323
    Differs: scales are float16 before weights are rounded, and a symmetric scale has a sign, so that all codes are used.
    Costs: one pass over the weights, and `search` more.
    """

    bits: int = 4  # of a weight, 2 to 8
    group: int = 32  # inputs that share a scale; -1 = all; where it does not divide the inputs, the last group is narrower
    symmetric: bool = True  # zero at code 0; false stores a zero for each group
    search: int = 0  # narrower ranges tried for each group, for the least squared error; 0 = none
    reads: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        self.grid  # noqa: B018 - its knobs are checked when it is made

    @property
    def grid(self) -> Grid:
        """The grids that weights are rounded to."""
        return Grid(self.bits, self.group, self.symmetric, self.search)

    def collect(self, acc: dict[str, Any], x: Tensor | None, y: Tensor | None, g: Tensor | None) -> None:
        """Nothing is needed."""

    @torch.no_grad()
    def solve(self, unit: nn.Linear, acc: dict[str, Any], knobs: dict[str, Any], fit: Any, tail: Any) -> Quantized:
        """The linear on its grid."""
        grid, w_OI = replace(self, **knobs).grid, unit.weight.float()
        scale, zero = fitted = grid.fit(w_OI)
        small = Packed(grid.round(w_OI, fitted), scale, zero, grid.bits, grid.width(w_OI.shape[1]), method="rtn")
        return Quantized(small, unit.bias, unit.weight.dtype)
