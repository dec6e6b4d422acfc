"""Setting weights to zero column by column, the error of each made good by the columns after it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from bloomery.nn.packed import Quantized
from bloomery.nn.sparse import Sparse
from bloomery.num.hessian import factor, gather, moments, sweep
from bloomery.num.masks import check, highest, pattern


@dataclass(frozen=True)
class SparseGPT:
    """Set weights to zero column by column, and let the columns still open make good what it does to the layer's output.

    Frantar and Alistarh 2023, arXiv 2301.00774
    Differs: weights are compared within each row of a block of columns, there within all rows of it; weights that stay are rounded to
    float16 as they are settled, so that later columns make that good too.
    Costs: X^T X of every layer's inputs, I^3 for its factor, O x I^2 for the columns; one matrix (I, I) in fp32 at a time.
    """

    zeros: float = 0.5  # share of weights set to zero, unless there is a pattern
    pattern: str = ""  # such as 2:4: that many weights stay of how many in a row
    damp: float = 0.01  # added to the Hessian's diagonal, as a share of its mean
    block: int = 128  # columns for which zeros are chosen together
    precision: Literal["float32", "bfloat16"] = "float32"  # of the factors of X^T X; bfloat16 is faster where it is in hardware
    reads: ClassVar[tuple[str, ...]] = ("x",)

    def __post_init__(self) -> None:
        check(self.zeros, self.pattern)
        if self.damp <= 0 or self.block < 1:
            raise ValueError(f"damp must be above 0 and block at least 1, got {self.damp} and {self.block}")

    def collect(self, acc: dict[str, Any], x: Tensor, y: Tensor | None, g: Tensor | None) -> None:
        """Adds inputs `x` (rows, I) to the running mean of X^T X, in fp32."""
        gather(acc, x, self.precision)

    @torch.no_grad()
    def solve(self, unit: nn.Linear, acc: dict[str, Any], knobs: dict[str, Any], fit: Any, tail: Any) -> Quantized:
        """The linear with its zeros; ValueError where no input was collected or an input was not finite."""
        own = replace(self, **knobs)
        w_OI = pruned(unit.weight.float(), moments(acc, "sparsegpt"), own.zeros, pattern(own.pattern), own.damp, own.block)
        return Quantized(Sparse.of(w_OI, own.pattern, "sparsegpt"), unit.bias, unit.weight.dtype)


def pruned(
    w_OI: Tensor, hessian_II: Tensor, zeros: float = 0.5, kept: tuple[int, int] | None = None, damp: float = 0.01, block: int = 128
) -> Tensor:
    """The weight with zeros, for inputs of second moments `hessian_II`; what stays is float16, in the weight's type.

    With U of the inverse Hessian, taking column j away costs w_j^2 / U_jj^2: the weights of a block that cost least, as it then is, go.
    """
    u_II, w_IO = factor(hessian_II.to(w_OI.dtype), damp), w_OI.T.contiguous()
    block = block if kept is None else max(kept[1], block // kept[1] * kept[1])  # a group is never cut by a block
    keep_IO = torch.ones_like(w_IO, dtype=torch.bool)

    def begin(start: int, w_JO: Tensor, u_JJ: Tensor) -> None:
        if kept is None:
            cost_JO = w_JO.square() / u_JJ.diagonal()[:, None].square()
            keep_IO[start : start + len(w_JO)] = highest(cost_JO.T, zeros).T

    def settle(j: int, w_O: Tensor) -> Tensor:
        if kept is not None and j % kept[1] == 0:  # its group's zeros are chosen from its weights as they now are
            group_KO = w_IO[j : j + kept[1]]
            cost_KO = group_KO.square() / u_II.diagonal()[j : j + kept[1], None].square()
            keep_IO[j : j + kept[1]] = highest(cost_KO.T, zeros, kept).T
        return torch.where(keep_IO[j], w_O.half().to(w_O.dtype), 0)

    sweep(w_IO, u_II, settle, block, begin)
    return w_IO.T.contiguous()
