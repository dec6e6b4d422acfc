"""Second moments of a layer's inputs, and what follows from them: the least change of outputs when weights are moved one by one.

With H the mean of x x^T over inputs, moving a weight matrix by D changes its outputs by tr(D H D^T) in the mean of squares.

Shapes: N rows of inputs, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

TOGETHER = 4096  # rows of inputs whose product is rounded to bfloat16 before it is added
SIDE = 512  # columns whose products are made at once; those below the diagonal are mirrored, not made

Precision = Literal["float32", "bfloat16"]  # of the factors of a product; sums of products are fp32 in either


def gather(acc: dict[str, Any], x: Tensor, precision: Precision = "float32") -> None:
    """Adds inputs `x` (N, I) to the running mean of x x^T in `acc`, fp32; of wide layers the blocks above the diagonal alone."""
    seen = acc.get("rows", 0)
    acc["rows"] = rows = seen + len(x)
    width = x.shape[1]
    hessian = acc.setdefault("hessian", torch.zeros(width, width, device=x.device)).mul_(seen / max(rows, 1))
    for chunk in x.split(TOGETHER):
        chunk = chunk.float() if precision == "float32" else chunk.bfloat16()
        for start in range(0, width, SIDE):
            part = hessian[start : start + SIDE, start:]
            left, right = chunk[:, start : start + SIDE].T, chunk[:, start:]
            if precision == "float32":
                part.addmm_(left, right, alpha=1 / max(rows, 1))
            else:
                part.add_(left @ right, alpha=1 / max(rows, 1))


def moments(acc: dict[str, Any], who: str) -> Tensor:
    """The whole mean (I, I), fp32; ValueError, beginning with `who` asks, where no input was collected or one was not finite."""
    if "hessian" not in acc:
        raise ValueError(f"{who} needs inputs of the layer and was given none; calibrate on sequences that reach it")
    hessian = acc["hessian"]
    for start in range(SIDE, len(hessian), SIDE):
        hessian[start : start + SIDE, :start] = hessian[:start, start : start + SIDE].T
    if not bool(hessian.isfinite().all()):
        raise ValueError("the inputs of a layer are not finite; the model or its calibration data are damaged")
    return hessian


def factor(hessian_II: Tensor, damp: float) -> Tensor:
    """U upper triangular with U^T U = (H + damping)^-1; inputs never seen count as independent. ValueError for numbers that are not finite.

    H = R R^T with R upper triangular is a Cholesky factor read backwards, and U = R^-1: one factor and no inverse of H.
    """
    root = upper(hessian_II, damp)
    eye = torch.eye(len(hessian_II), dtype=hessian_II.dtype, device=hessian_II.device)
    return torch.linalg.solve_triangular(root, eye, upper=True)


def upper(hessian_II: Tensor, damp: float) -> Tensor:
    """R upper triangular with R R^T = H + damping, a share `damp` of the mean of the diagonal that is raised until there is one."""
    if not bool(hessian_II.isfinite().all()):
        raise ValueError("the inputs of a layer are not finite; the model or its calibration data are damaged")
    eye = torch.eye(len(hessian_II), dtype=hessian_II.dtype, device=hessian_II.device)
    diagonal = hessian_II.diagonal()
    mean = diagonal.sum() / max(1, int((diagonal > 0).sum()))
    mean = mean if mean > 0 else torch.ones_like(mean)
    hessian_II = hessian_II + torch.where(diagonal > 0, 0, mean).diag()
    for more in (1, 10, 100, 1000):
        low, failed = torch.linalg.cholesky_ex((hessian_II + eye * (damp * more * mean)).flip(0, 1))
        if not int(failed):
            return low.flip(0, 1)
    raise ValueError("the second moments of a layer's inputs are not positive; the calibration data are damaged")


Settle = Callable[[int, Tensor], Tensor]
Begin = Callable[[int, Tensor, Tensor], None]


def sweep(w_IO: Tensor, u_II: Tensor, settle: Settle, step: int, begin: Begin | None = None) -> None:
    """Settles the columns of a weight one after the other, in place; those still open make good what it does to the outputs.

    P239 Frantar et al. 2022, arXiv 2210.17323: with U of `factor`, moving column j by -e leaves the least output error when every later
    column k moves by -e U_jk / U_jj. Columns lie in rows here, since each is read as a whole. `settle` is given a column's place and its
    weights (O) as they now are and returns what they become; `begin` sees a block of `step` columns, and their U, before the first of
    them is settled. The columns after a block are brought up to date once, by one product.
    """
    columns = len(w_IO)
    for start in range(0, columns, step):
        stop = min(start + step, columns)
        w_JO, u_JJ = w_IO[start:stop], u_II[start:stop, start:stop]
        if begin is not None:
            begin(start, w_JO, u_JJ)
        error_JO = torch.empty_like(w_JO)
        for j in range(stop - start):
            settled = settle(start + j, w_JO[j])
            error_JO[j] = (w_JO[j] - settled) / u_JJ[j, j]
            w_JO[j] = settled
            w_JO[j + 1 :].addr_(u_JJ[j, j + 1 :], error_JO[j], alpha=-1)
        w_IO[stop:].addmm_(u_II[start:stop, stop:].T, error_JO, alpha=-1)


def output_error(change_OI: Tensor, hessian_II: Tensor) -> Tensor:
    """Mean of the squared change of each output, (O)."""
    return ((change_OI @ hessian_II) * change_OI).sum(1)
