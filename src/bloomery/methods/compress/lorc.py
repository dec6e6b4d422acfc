"""A thin product added to rounded weights, which makes good the largest part of what rounding did."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bloomery.core.errors import BadInput
from bloomery.nn.packed import Packed, Quantized
from bloomery.num.lowrank import thin
from bloomery.seams import Compress


@dataclass(frozen=True)
class LoRC:
    """Let another method round the weights, and store the error's nearest product of low rank beside them.

    P218 Yao et al. 2023, arXiv 2303.08302
    Differs: the factors are float16, not rounded to 8 bits. That each takes the root of the singular values is from memory; it changes
    the product by its rounding alone.
    Costs: what the inner method does; an eigendecomposition of every matrix's shorter side; rank x (O + I) float16 numbers.
    """

    inner: Compress = "rtn"  # what rounds the weights; it makes codes
    rank: int = 8  # of the product that is added

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, got {self.rank}")

    @property
    def reads(self) -> tuple[str, ...]:
        """What the inner method looks at."""
        return self.inner.reads

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return getattr(self.inner, "bits", 8)

    def collect(self, acc: dict[str, Any], x: Tensor | None, y: Tensor | None, g: Tensor | None) -> None:
        """As the inner method does."""
        self.inner.collect(acc, x, y, g)

    @torch.no_grad()
    def solve(self, unit: nn.Linear, acc: dict[str, Any], knobs: dict[str, Any], fit: Any, tail: Any) -> Quantized:
        """The inner method's linear with its correction; BadInput where that has no codes."""
        small = self.inner.solve(unit, acc, knobs, fit, tail)
        packed = getattr(small, "packed", None)
        if not isinstance(packed, Packed) or packed.order is not None:
            raise BadInput(f"lorc corrects codes, and {type(self.inner).__name__} makes none; choose another inner method")
        left_OK, right_KI = thin(unit.weight - packed.dense(), min(self.rank, *packed.shape))
        return Quantized(replace(packed, left_OK=left_OK.half(), right_KI=right_KI.half()), unit.bias, unit.weight.dtype)
