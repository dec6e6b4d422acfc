"""Weights as products of thin matrices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bloomery.core.errors import BadInput
from bloomery.nn.packed import Quantized
from bloomery.nn.stacked import Stacked
from bloomery.num.hessian import gather, moments, upper
from bloomery.num.lowrank import thin


@dataclass(frozen=True)
class SVD:
    """Store each weight as the product of low rank that is nearest to it, or whose outputs are nearest to its own.

    Wang et al. 2024, arXiv 2403.07378 (by outputs); Eckart and Young 1936 (by weights)
    Differs: both factors are float16; nothing is trained or updated after the cut.
    Costs: by outputs, X^T X of every layer's inputs and I^3 for its factor; an eigendecomposition of every matrix's shorter side.
    """

    share: float = 0.7  # of the bytes that the weight would take in float16; the rank follows from it
    near: Literal["outputs", "weights"] = "outputs"  # what is to change least
    damp: float = 1e-3  # added to the diagonal of X^T X, as a share of its mean
    precision: Literal["float32", "bfloat16"] = "float32"  # of the factors of X^T X; bfloat16 is faster where it is in hardware

    def __post_init__(self) -> None:
        if not 0 < self.share <= 2 or self.damp <= 0:
            raise ValueError(f"share must be between 0 and 2 and damp above 0, got {self.share} and {self.damp}")

    @property
    def reads(self) -> tuple[str, ...]:
        """Inputs, where outputs count."""
        return ("x",) if self.near == "outputs" else ()

    def collect(self, acc: dict[str, Any], x: Tensor | None, y: Tensor | None, g: Tensor | None) -> None:
        """Adds inputs `x` (rows, I) to the running mean of X^T X, in fp32."""
        if x is not None:
            gather(acc, x, self.precision)

    @torch.no_grad()
    def solve(self, unit: nn.Linear, acc: dict[str, Any], knobs: dict[str, Any], fit: Any, tail: Any) -> Quantized:
        """The linear as its product; ValueError where inputs are wanted and none was collected, or one was not finite.

        With R R^T = H, the outputs of W change by the Frobenius norm of a change of W R: its nearest product, times R^-1, is the answer.
        """
        own: SVD = replace(self, **knobs)
        w_OI, root_II = unit.weight.double(), None
        if own.near == "outputs":
            root_II = upper(moments(acc, "svd").double(), own.damp)
            w_OI = w_OI @ root_II
        left_OK, right_KI = thin(w_OI, rank_of(own.share, *unit.weight.shape))
        if root_II is not None:
            right_KI = torch.linalg.solve_triangular(root_II, right_KI, upper=True, left=False)
            even_K1 = (left_OK.norm(dim=0) / right_KI.norm(dim=1).clamp(min=1e-30)).sqrt()[:, None]  # both within float16
            left_OK, right_KI = left_OK / even_K1.T.clamp(min=1e-30), right_KI * even_K1
        left, right = left_OK.half(), right_KI.half()
        if not bool(left.isfinite().all() and right.isfinite().all()):
            raise BadInput("a factor of a weight is beyond float16; choose near: weights, or another method")
        places = torch.zeros(1, dtype=torch.int32)
        return Quantized(Stacked(left[None], right[None], None, None, places, "svd"), unit.bias, unit.weight.dtype)


def rank_of(share: float, rows: int, columns: int) -> int:
    """The rank whose factors take that share of the weight's own numbers, 1 at least."""
    return max(1, min(int(share * rows * columns / (rows + columns)), rows, columns))
