from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bloomery.core.rng import torch_rng
from bloomery.seams import Batch, Rng


@dataclass(frozen=True)
class Private:
    """Clips the gradient of every row and adds Gaussian noise, so that what is learned hides whether any one row took part.

    P164 Behnia et al. 2022, arXiv 2210.15042
    Differs: the noise is given as a multiplier; `num/privacy.py` holds the Edgeworth accountant, and others, that turn a target into
    one. Accountants assume that rows are drawn independently and that the denominators of the loss do not depend on the data, as with
    packed rows, where all weigh the same; the loop draws rows without replacement. Parts of a loss outside the net are not covered.
    Costs: one forward and backward pass for each row, one after the other, and a second buffer of gradients.
    """

    clip: float = 1.0  # largest norm of a row's gradient, times the rows of a step; 0 never clips
    sigma: float = 1.0  # deviation of the noise, over `clip`; 0 adds none

    def __post_init__(self) -> None:
        if self.clip < 0 or self.sigma < 0 or not math.isfinite(self.clip + self.sigma):
            raise ValueError(f"clip and sigma must be finite and not negative, got {self.clip} and {self.sigma}")
        if self.sigma and not self.clip:
            raise ValueError("noise hides nothing unless gradients are clipped; set clip above 0")

    def backward(self, net: nn.Module, micros: Sequence[Batch], value: Callable[[nn.Module, Batch], Any], rng: Rng) -> dict[str, float]:
        """Leave the noisy sum of clipped gradients in `.grad`.

        Returns the loss and, where rows are clipped, the share of rows that were, the mean and largest norm of a row before, the
        largest after, all times the rows of the step, and the deviation of the noise in each number.
        """
        if not self.clip:
            return {"loss": float(sum(_back(value(net, micro)) for micro in micros))}
        params = [p for p in net.parameters() if p.requires_grad]
        count = sum(len(micro.inputs) for micro in micros)
        most, losses, norms, after = self.clip / count, [], [], []
        total = [torch.zeros_like(p, dtype=torch.float32) for p in params]
        for row in rows(micros):
            losses.append(_back(value(net, row)))
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
            norms.append(float(torch.stack(torch._foreach_norm(grads, dtype=torch.float32)).double().norm()))
            scale = min(1.0, most / max(norms[-1], 1e-300))
            after.append(norms[-1] * scale)
            for into, grad, p in zip(total, grads, params, strict=True):
                into.add_(grad, alpha=scale)
                p.grad = None
        deviation = self.sigma * most
        for i, (p, grad) in enumerate(zip(params, total, strict=True)):
            if deviation:
                draw = torch_rng(rng.child("noise", i), str(grad.device))
                grad.add_(torch.randn(grad.shape, generator=draw, device=grad.device), alpha=deviation)
            p.grad = grad.to(p.dtype)
        return {
            "loss": float(sum(losses)),
            "clipped_share": sum(norm > most for norm in norms) / count,
            "row_norm": sum(norms),
            "row_norm_largest": max(norms) * count,
            "row_norm_clipped": max(after) * count,
            "noise_deviation": deviation,
        }


def rows(micros: Sequence[Batch]) -> Iterator[Batch]:
    """Each row as a batch of its own."""
    for micro in micros:
        for i in range(len(micro.inputs)):
            yield Batch(**{name: column[i : i + 1] for name, column in vars(micro).items()})


def _back(loss: Tensor) -> float:
    loss.backward()
    return float(loss.detach())
