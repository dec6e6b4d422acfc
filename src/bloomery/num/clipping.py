"""Bounding gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def clip_together(grads: Sequence[Tensor], most: float, norm: float | None = None) -> float:
    """Scale all gradients in place so that their joint norm is at most `most`, or not at all with 0; returns the norm before.

    `norm` is given where other ranks have gradients of their own. Source: Pascanu et al. 2013, arXiv 1211.5063.
    """
    norm, parts = joint_norm(grads) if norm is None else norm, [local(g) for g in grads]
    if most and norm > most:
        torch._foreach_mul_(parts, most / norm)
    return norm


def joint_norm(grads: Sequence[Tensor]) -> float:
    """The norm of all together, float64; of tensors that lie on several ranks (DTensor), the same on all of them."""
    sums: dict[tuple, list[Tensor]] = {}
    for g in grads:
        cut = tuple(i for i, one in enumerate(g.placements) if not one.is_replicate()) if hasattr(g, "placements") else ()
        sums.setdefault((g.device_mesh, cut) if cut else (), []).append(local(g))
    total = 0.0
    for where, parts in sums.items():
        square = torch.stack(torch._foreach_norm(parts)).double().square().sum().reshape(1)
        if where:
            import torch.distributed as dist

            for axis in where[1]:
                dist.all_reduce(square, group=where[0].get_group(axis))
        total += float(square)
    return total**0.5


def local(g: Tensor) -> Tensor:
    """The part of a tensor that this rank holds."""
    return g.to_local() if hasattr(g, "to_local") else g
