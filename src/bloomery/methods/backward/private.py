from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bloomery.core.errors import BadInput
from bloomery.core.rng import numpy_rng, torch_rng
from bloomery.seams import Batch, Rng


@dataclass(frozen=True)
class Private:
    """Clips the gradient of every row and adds Gaussian noise, so that what is learned hides whether any one row took part.

    P164 Behnia et al. 2022, arXiv 2210.15042
    Differs: the noise is given as a multiplier; `noise` of `num/privacy.py` turns a target into one. The paper's Edgeworth estimate alone
    is not to be trusted (what it gives for epsilon 3 had 13.3), so `noise` raises its answer to what exact composition asks for.
    Accountants assume that rows are drawn independently and that the denominators of the loss do not depend on the data, as with
    packed rows, where all weigh the same; the loop draws rows without replacement. Parts of a loss belong to the net and are covered.
    Limits: a loss that looks at the whole step first is refused where that gives it anything, as a row's gradient then depends on other
    rows. Noise is drawn from the recipe's seed: whoever knows the seed can subtract it. `secret` draws it from the system instead, by a
    generator that is not cryptographic, but the rows of a step still follow from the seed, and with them known sampling hides nothing.
    The facts of each step (loss, row_norm, clipped_share and the like) are exact functions of private rows, no noise in them, and
    curve.jsonl goes with the model: keep it back, and the seed too.
    Costs: one forward and backward pass for each row, one after the other, and a second buffer of gradients.
    """

    clip: float = 1.0  # largest norm of a row's gradient, times the rows of a step; 0 never clips
    sigma: float = 1.0  # deviation of the noise, over `clip`; 0 adds none
    secret: bool = False  # noise that no seed gives again, so that no run does either, not even one that goes on after a stop

    def __post_init__(self) -> None:
        if self.clip < 0 or self.sigma < 0 or not math.isfinite(self.clip + self.sigma):
            raise ValueError(f"clip and sigma must be finite and not negative, got {self.clip} and {self.sigma}")
        if self.sigma and not self.clip:
            raise ValueError("noise hides nothing unless gradients are clipped; set clip above 0")

    def backward(self, net: nn.Module, micros: Sequence[Batch], value: Callable[[nn.Module, Batch], Any], rng: Rng) -> dict[str, float]:
        """Leave the noisy sum of clipped gradients in `.grad`.

        Returns the loss and, where rows are clipped, the share of rows that were, the mean and largest norm of a row before, the
        largest after, all times the rows of the step, and the deviation of the noise in each number. BadInput where rows are clipped and
        the loss has looked at the whole step.
        """
        if not self.clip:
            return {"loss": float(sum(_back(value(net, micro)) for micro in micros))}
        if getattr(value, "seen", None):
            raise BadInput("backward: private bounds what one row changes, and this loss looks at all rows of a step; choose another loss")
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
                grad.add_(self.noise(grad, rng.child("noise", i)), alpha=deviation)
            p.grad = grad.to(p.dtype)
        return {
            "loss": float(sum(losses)),
            "clipped_share": sum(norm > most for norm in norms) / count,
            "row_norm": sum(norms),
            "row_norm_largest": max(norms) * count,
            "row_norm_clipped": max(after) * count,
            "noise_deviation": deviation,
        }

    def noise(self, like: Tensor, rng: Rng) -> Tensor:
        """Standard normal numbers in the shape of `like`: of this key, or of one that the system draws and nobody keeps."""
        if not self.secret:
            return torch.randn(like.shape, generator=torch_rng(rng, str(like.device)), device=like.device)
        dice = numpy_rng(Rng((os.urandom(32).hex(),)))  # a key of 128 bits, where torch's seeds have 32 on the CPU
        return torch.from_numpy(dice.standard_normal(tuple(like.shape), np.float32)).to(like.device)


def rows(micros: Sequence[Batch]) -> Iterator[Batch]:
    """Each row as a batch of its own."""
    for micro in micros:
        for i in range(len(micro.inputs)):
            yield Batch(**{name: column[i : i + 1] for name, column in vars(micro).items()})


def _back(loss: Tensor) -> float:
    loss.backward()
    return float(loss.detach())
