"""Setting weights to zero by what they pass on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bloomery.nn.packed import Quantized
from bloomery.nn.sparse import Sparse
from bloomery.num.masks import check, highest, pattern


@dataclass(frozen=True)
class Wanda:
    """Set to zero, in every row, the weights whose magnitude times the norm of their input is least.

    Sun et al. 2023, arXiv 2306.11695
    Differs: inputs are those that the already pruned model before a layer brings to it.
    Costs: a sum of squares of every input, and a sort of every row. Weights are turned dense when loaded: no speed-up here.
    """

    zeros: float = 0.5  # share of weights set to zero, unless there is a pattern
    pattern: str = ""  # such as 2:4: that many weights stay of how many in a row
    reads: ClassVar[tuple[str, ...]] = ("x",)

    def __post_init__(self) -> None:
        check(self.zeros, self.pattern)

    def collect(self, acc: dict[str, Any], x: Tensor, y: Tensor | None, g: Tensor | None) -> None:
        """Adds the squares of inputs `x` (rows, I)."""
        acc["square"] = acc.get("square", 0) + x.double().square().sum(0)

    @torch.no_grad()
    def solve(self, unit: nn.Linear, acc: dict[str, Any], knobs: dict[str, Any], fit: Any, tail: Any) -> Quantized:
        """The linear with its zeros; ValueError where no input was collected or an input was not finite."""
        if "square" not in acc:
            raise ValueError("wanda needs inputs of the layer and was given none; calibrate on sequences that reach it")
        if not bool(acc["square"].isfinite().all()):
            raise ValueError("the inputs of a layer are not finite; the model or its calibration data are damaged")
        own = replace(self, **knobs)
        keep_OI = highest(unit.weight.abs() * acc["square"].sqrt(), own.zeros, pattern(own.pattern))
        return Quantized(Sparse.of(unit.weight * keep_OI, own.pattern, "wanda"), unit.bias, unit.weight.dtype)
