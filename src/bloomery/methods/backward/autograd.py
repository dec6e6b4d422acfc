from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bloomery.num.clipping import clip_together
from bloomery.seams import Batch, Rng


@dataclass(frozen=True)
class Autograd:
    """Plain back-propagation, one micro-batch after the other; the global gradient norm is clipped.

    Pascanu et al. 2013, arXiv 1211.5063
    Differs: each micro-batch's share is divided by denominators of the whole batch, so accumulation is exact.
    Costs: activations of one micro-batch.
    """

    streams = True  # gradients may be taken as they arrive
    divides = True

    clip: float = 1.0  # largest norm of all gradients together; 0 never clips

    def __post_init__(self) -> None:
        if self.clip < 0:
            raise ValueError(f"clip must not be negative, got {self.clip}")

    def backward(self, net: nn.Module, micros: Sequence[Batch], value: Callable[[nn.Module, Batch], Any], rng: Rng) -> dict[str, float]:
        """Add the gradient of every micro-batch into `.grad`; returns {"loss": the step's loss}."""
        losses = []
        for micro in micros:
            loss = value(net, micro)
            loss.backward()
            losses.append(loss.detach())
        return {"loss": float(torch.stack(losses).double().sum())}

    def transform(self, grads: Sequence[Tensor], norm: float | None = None) -> dict[str, float]:
        """Scale all gradients in place so that their joint norm is at most `clip`; returns {"grad_norm": norm before}."""
        return {"grad_norm": clip_together(grads, self.clip, norm)}
