"""Low-rank subspaces of a matrix's short side, and the polar factor by matrix products: what optimizers of whole matrices share.

Shapes: M rows and N columns of a matrix, R rank, S = min(M, N) its short side.
"""

from __future__ import annotations

import torch
from torch import Tensor

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # quintic of Jordan et al. 2024, steepest at 0


def low(g_MN: Tensor, rank: int) -> tuple[int, ...]:
    """Shape of a matrix whose short side has been projected to `rank` numbers."""
    m, n = g_MN.shape
    return (min(rank, m), n) if m < n else (m, min(rank, n))


def basis(g_MN: Tensor, rank: int) -> Tensor:
    """Orthonormal columns (S, R): the leading singular vectors of `g_MN` on its short side.

    Of each vector the number of largest magnitude is positive, so that the same matrix gives the same basis whichever sign the
    decomposition chose. Where rank is the whole side there is nothing to leave out, and the basis is the identity.
    """
    m, n = g_MN.shape
    side = min(m, n)
    if rank >= side:
        return torch.eye(side, dtype=g_MN.dtype, device=g_MN.device)
    exact = g_MN if g_MN.dtype == torch.float64 else g_MN.float()
    u_MS, _, v_SN = torch.linalg.svd(exact, full_matrices=False)
    found = (u_MS if m < n else v_SN.mT)[:, :rank]
    largest = found.gather(0, found.abs().argmax(0, keepdim=True))
    return (found * torch.where(largest < 0, -1.0, 1.0)).to(g_MN.dtype)


def project(g_MN: Tensor, basis_SR: Tensor) -> Tensor:
    """Coordinates of the short side in the basis: (R, N) of a wide matrix, (M, R) of a tall or square one."""
    return basis_SR.mT @ g_MN if g_MN.shape[0] < g_MN.shape[1] else g_MN @ basis_SR


def unproject(r: Tensor, basis_SR: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Back from coordinates to a matrix of `shape`."""
    return basis_SR @ r if shape[0] < shape[1] else r @ basis_SR.mT


def orthogonal(g_MN: Tensor, steps: int = 5) -> Tensor:
    """About the polar factor U V^T of `g_MN` by Newton-Schulz steps: singular values end between 0.68 and 1.14, not at 1.

    Zero stays zero. Computed in the type of `g_MN`.
    """
    a, b, c = NEWTON_SCHULZ
    tall = g_MN.shape[0] > g_MN.shape[1]
    x = g_MN.mT if tall else g_MN
    x = x / x.norm().clamp_min(torch.finfo(x.dtype).tiny)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
