"""Setting weights to zero by what they pass on and by the gradient of the loss."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bloomery.nn.packed import Quantized
from bloomery.nn.sparse import Sparse
from bloomery.num.masks import check, highest, pattern


@dataclass(frozen=True)
class GBLM:
    """Set to zero, in every row, the weights whose magnitude times the norms of their input and of their gradient is least.

    P166 Das et al. 2023, arXiv 2311.04902
    Differs: gradients are squared and summed over tokens and not over sequences, and scaled so that over the matrix their mean is that of
    the inputs' norms, which makes `alpha` free of the units of the loss (the authors' code multiplies gradients of a mean loss by 100);
    inputs too are the source model's, where theirs come from the layers that are already pruned.
    Costs: a backward pass through the whole model, which is in memory as one; two matrices (O, I) of every linear until it is solved.
    """

    zeros: float = 0.5  # share of weights set to zero, unless there is a pattern
    pattern: str = ""  # such as 2:4: that many weights stay of how many in a row
    alpha: float = 1.0  # weight of the gradient beside the input; 0 = the input alone, which is Wanda on the source's inputs
    reads: ClassVar[tuple[str, ...]] = ("x", "g")

    def __post_init__(self) -> None:
        check(self.zeros, self.pattern)
        if self.alpha < 0:
            raise ValueError(f"alpha must not be negative, got {self.alpha}")

    def collect(self, acc: dict[str, Any], x: Tensor, y: Tensor | None, g: Tensor) -> None:
        """Adds the squares of inputs `x` (rows, I), and of each weight's gradient at every row, `g` (rows, O) being that of the outputs."""
        square_I = x.float().square()
        acc["square"] = acc.get("square", 0) + square_I.sum(0)
        acc["gradient"] = acc.get("gradient", 0) + g.float().square().T @ square_I

    @torch.no_grad()
    def solve(self, unit: nn.Linear, acc: dict[str, Any], knobs: dict[str, Any], fit: Any, tail: Any) -> Quantized:
        """The linear with its zeros; ValueError where nothing was collected or it was not finite."""
        if "square" not in acc:
            raise ValueError("gblm needs inputs of the layer and was given none; calibrate on sequences that reach it")
        if not bool(acc["square"].isfinite().all() and acc["gradient"].isfinite().all()):
            raise ValueError("the inputs or the gradients of a layer are not finite; the model or its calibration data are damaged")
        own = replace(self, **knobs)
        norm_I, gradient_OI = acc["square"].sqrt(), acc["gradient"].sqrt()
        even_OI = gradient_OI / gradient_OI.mean().clamp(min=torch.finfo(torch.float32).tiny)  # 0 where the loss minds nothing
        score_OI = unit.weight.abs() * (norm_I + own.alpha * norm_I.mean() * even_OI)
        keep_OI = highest(score_OI, own.zeros, pattern(own.pattern))
        return Quantized(Sparse.of(unit.weight * keep_OI, own.pattern, "gblm"), unit.bias, unit.weight.dtype)
