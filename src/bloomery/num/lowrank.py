"""Matrices as products of thin ones.

Shapes: O outputs, I inputs, K rank.
"""

from __future__ import annotations

import torch
from torch import Tensor


def thin(w_OI: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The product (O, K) x (K, I) nearest to a matrix, each factor with the roots of the singular values (Eckart & Young 1936).

    K is at most the shorter side. The vectors of the shorter side are those of its Gram matrix, in fp64, and the others follow from them.
    """
    if w_OI.shape[0] > w_OI.shape[1]:
        left, right = thin(w_OI.T, rank)
        return right.T.contiguous(), left.T.contiguous()
    w_OI = w_OI.double()
    square_K, u_OK = (part.flip(-1)[..., :rank] for part in torch.linalg.eigh(w_OI @ w_OI.T))
    root_K = square_K.clamp(min=0).pow(0.25)
    root_K = torch.where(root_K > 1e-4 * root_K.max(), root_K, 0)  # what is below is rounding, which a division would blow up
    return (u_OK * root_K).contiguous(), (u_OK.T @ w_OI) / torch.where(root_K > 0, root_K, torch.inf)[:, None]
