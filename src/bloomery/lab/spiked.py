"""Gradient spikes on purpose: what claims about robust optimizers train under. In a recipe: `backward: bloomery.lab.spiked.Spiked`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bloomery.seams import Backward, Batch, Rng

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Spiked:
    """Multiplies random numbers of the gradient at random steps; what the inner method clips, it clips afterwards.

    A fixture of claims; spikes of up to 1000 times the usual size are reported by Huang et al. 2025, arXiv 2501.06842
    Differs: a real spike has a cause in the data; this one has none, and strikes each number of the model alike.
    Costs: one random number per parameter at a spiked step.
    """

    chance: float = 0.1  # probability that a step is spiked
    share: float = 0.001  # of the gradient's numbers, at a spiked step
    factor: float = 1000.0  # what they are multiplied by
    inner: Backward = "autograd"  # forward and backward pass

    def __post_init__(self) -> None:
        if not 0 <= self.chance <= 1 or not 0 <= self.share <= 1:
            raise ValueError(f"chance and share must be between 0 and 1, got {self.chance} and {self.share}")

    def backward(self, net: nn.Module, micros: Sequence[Batch], value: Callable[..., Any], rng: Rng) -> dict[str, float]:
        """The inner method's pass, then the spikes; says how many numbers were struck. Gradients are not streamed: they stay in `.grad`."""
        import torch

        from bloomery.core.rng import python_rng, torch_rng

        numbers = self.inner.backward(net, micros, value, rng)
        spiked = 0
        if python_rng(rng.child("spiked")).random() < self.chance:
            for i, p in enumerate(net.parameters()):
                if p.grad is not None:
                    struck = torch.rand(p.shape, generator=torch_rng(rng.child("spikes", i), str(p.device)), device=p.device) < self.share
                    p.grad[struck] *= self.factor
                    spiked += int(struck.sum())
        return {**numbers, "spiked": float(spiked)}

    def transform(self, grads: Sequence[Tensor], norm: float | None = None) -> dict[str, float]:
        """What the inner method does to the step's gradients."""
        return self.inner.transform(grads, norm) if hasattr(self.inner, "transform") else {}
