"""Setting the smallest weights to zero."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from bloomery.nn.packed import Quantized
from bloomery.nn.sparse import Sparse
from bloomery.num.masks import check, highest, pattern


@dataclass(frozen=True)
class Magnitude:
    """Set the weights of least magnitude to zero; no data is looked at.

    Han et al. 2015, arXiv 1506.02626
    Differs: one cut and no training after it, which is a step of its own; weights are compared within each matrix or row.
    Costs: a sort of every matrix. Weights are turned dense when loaded: no speed-up here.
    """

    zeros: float = 0.5  # share of weights set to zero, unless there is a pattern
    pattern: str = ""  # such as 2:4: that many weights stay of how many in a row
    over: Literal["matrix", "row"] = "matrix"  # within which weights are compared
    reads: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check(self.zeros, self.pattern)

    def collect(self, acc: dict[str, Any], x: Tensor | None, y: Tensor | None, g: Tensor | None) -> None:
        """Nothing is needed."""

    @torch.no_grad()
    def solve(self, unit: nn.Linear, acc: dict[str, Any], knobs: dict[str, Any], fit: Any, tail: Any) -> Quantized:
        """The linear with its zeros."""
        own = replace(self, **knobs)
        keep_OI = highest(unit.weight.abs(), own.zeros, pattern(own.pattern), own.over)
        return Quantized(Sparse.of(unit.weight * keep_OI, own.pattern, "magnitude"), unit.bias, unit.weight.dtype)
