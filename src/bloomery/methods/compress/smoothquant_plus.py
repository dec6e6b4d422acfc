"""Rounding weights after the columns of outlying inputs were made larger, as much in all linears of the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bloomery.core.errors import BadInput
from bloomery.nn.packed import Packed, Quantized
from bloomery.num.grids import Grid


@dataclass(frozen=True)
class SmoothQuantPlus:
    """Multiply every column by max|x|^alpha / max|w|^(1 - alpha), round, and divide again, with the alpha that is best for the whole model.

    P225 Pan et al. 2023, arXiv 2312.03788
    Differs: the divisor is stored with the linear (float16, one a column) and not folded into the norm before it, so linears without
    one are smoothed too, and weights' maxima are of one linear and not of all that read the norm; alpha is searched by the calibration
    loss of the quantized model. The formula and the folding are those of the authors' repository, which holds no search: its details are
    not known here.
    Costs: for each alpha tried, all linears rounded at once and a pass through the model, which is in memory as one.
    """

    bits: int = 4  # of a weight, 2 to 8
    group: int = 32  # inputs that share a scale; -1 = all; where it does not divide the inputs, the last group is narrower
    symmetric: bool = True  # zero at code 0; false stores a zero for each group
    alpha: float = 0.5  # share of the difficulty that weights take over, where none is searched
    tried: int = 10  # values of alpha between 0 and 1 that are searched, both ends included; 0 = none
    reads: ClassVar[tuple[str, ...]] = ("x",)

    def __post_init__(self) -> None:
        self.grid  # noqa: B018 - its knobs are checked when it is made
        if not 0 <= self.alpha <= 1 or self.tried < 0 or self.tried == 1:
            raise ValueError(f"alpha must be between 0 and 1 and tried 0 or at least 2, got {self.alpha} and {self.tried}")

    @property
    def grid(self) -> Grid:
        """The grids that weights are rounded to."""
        return Grid(self.bits, self.group, self.symmetric)

    def collect(self, acc: dict[str, Any], x: Tensor, y: Tensor | None, g: Tensor | None) -> None:
        """The largest magnitude of every input of `x` (rows, I)."""
        if len(x):
            largest_I = x.float().abs().amax(0)
            acc["largest"] = torch.maximum(acc["largest"], largest_I) if "largest" in acc else largest_I

    @torch.no_grad()
    def allocate(
        self, stats: Mapping[str, Any], units: Mapping[str, nn.Module], budget: float, measure: Callable[[Mapping[str, nn.Module]], float]
    ) -> dict[str, dict[str, Any]]:
        """The alpha with which the quantized model loses least, for all units; BadInput for a budget, which this does not divide."""
        if math.isfinite(budget):
            raise BadInput("budget: smoothquant_plus divides none over the linears; leave it out, or choose bitstack or cptquant")
        if not self.tried:
            return {}
        alphas = [i / (self.tried - 1) for i in range(self.tried)]
        nats = {
            alpha: measure({name: self.solve(unit, stats[name], {"alpha": alpha}, None, None) for name, unit in units.items()})
            for alpha in alphas
        }
        best = min(alphas, key=nats.__getitem__)
        return {name: {"alpha": best} for name in units}

    @torch.no_grad()
    def solve(self, unit: nn.Linear, acc: dict[str, Any], knobs: dict[str, Any], fit: Any, tail: Any) -> Quantized:
        """The linear on its grid; ValueError where no input was collected or an input was not finite."""
        if "largest" not in acc:
            raise ValueError("smoothquant_plus needs inputs of the layer and was given none; calibrate on sequences that reach it")
        if not bool(acc["largest"].isfinite().all()):
            raise ValueError("the inputs of a layer are not finite; the model or its calibration data are damaged")
        own: SmoothQuantPlus = replace(self, **knobs)
        w_OI, grid = unit.weight.float(), own.grid
        factor_I = factors(acc["largest"], w_OI.abs().amax(0), own.alpha)
        wide_OI = w_OI / factor_I.float()
        fitted = grid.fit(wide_OI)
        small = Packed(
            grid.round(wide_OI, fitted), *fitted, grid.bits, grid.width(w_OI.shape[1]), method="smoothquant_plus", input_I=factor_I
        )
        return Quantized(small, unit.bias, unit.weight.dtype)


def factors(input_I: Tensor, weight_I: Tensor, alpha: float) -> Tensor:
    """weight^(1 - alpha) / input^alpha of the largest magnitudes, float16, within 1000 of their geometric mean, which becomes 1."""
    tiny = torch.finfo(torch.float32).tiny
    log_I = (1 - alpha) * weight_I.clamp(min=tiny).log() - alpha * input_I.clamp(min=tiny).log()
    seen = (input_I > 0) & (weight_I > 0)
    middle = log_I[seen].mean() if bool(seen.any()) else log_I.mean()
    return torch.where(seen, (log_I - middle).clamp(-math.log(1e3), math.log(1e3)).exp(), 1.0).half()
