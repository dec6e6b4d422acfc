"""Bounding gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def clip_together(grads: Sequence[Tensor], most: float) -> float:
    """Scale all gradients in place so that their joint norm is at most `most`, or not at all with 0; returns the norm before.

    Source: Pascanu et al. 2013, arXiv 1211.5063.
    """
    norm = float(torch.stack(torch._foreach_norm(list(grads))).double().norm())
    if most and norm > most:
        torch._foreach_mul_(list(grads), most / norm)
    return norm
