from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bloomery.core.rng import torch_rng
from bloomery.seams import Rng

WARM_FROM = 0.01  # share of a step right after a reset


@dataclass(frozen=True)
class Spam:
    """Adam that clips single gradients far above their usual size, and forgets its moments every `gap` steps.

    P394 Huang et al. 2025, arXiv 2501.06842
    Differs: bias is corrected from the last reset on, for the clipping too. A number whose mean square is still 0, as it had no gradient
    since the reset, is not clipped: the paper's rule would hold it at 0 until the next. beta2 is 0.95 and not 0.999, hence theta 100 and
    not 5000: a clipped spike weighs as much in the mean of squares. With density below 1 moments are kept for one number, drawn at
    random, in each of equally long stretches of a matrix; only a seed is stored, and the places are drawn from it at every step.
    The authors' code counts steps from 1 when it resets, so that its first reset comes one step sooner; ours come after `gap` steps.
    Costs: two numbers of state per parameter, times the density.
    """

    beta1: float = 0.9  # decay of the mean of gradients
    beta2: float = 0.95  # decay of the mean of squared gradients
    eps: float = 1e-8  # added to the root of the squares
    theta: float = 100.0  # a squared gradient above this multiple of its mean square is clipped to it; 0 = never
    settle: int = 10  # steps after a reset without clipping
    gap: int = 500  # steps between resets; 0 = never
    warm: int = 150  # steps after a reset over which the step grows back
    density: float = 1.0  # share of a matrix's numbers that have moments and move; 1 = all, in any tensor
    space = {"rate": (5e-4, 1e-2), "beta2": [0.95, 0.98, 0.99], "theta": (25, 5000), "gap": [100, 200, 500]}

    def __post_init__(self) -> None:
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")
        if self.eps <= 0 or not 0 < self.density <= 1:
            raise ValueError(f"eps must be above 0 and density above 0 and at most 1, got {self.eps} and {self.density}")
        if min(self.theta, self.settle, self.gap, self.warm) < 0:
            raise ValueError("theta, settle, gap and warm must not be negative")

    @property
    def scope(self) -> str:
        """Each number for itself, unless the places that are kept belong to a whole matrix."""
        return "element" if self.density == 1 else "matrix"

    def init(self, like: Tensor) -> dict[str, Tensor]:
        """Both means at zero, for the numbers that are kept."""
        if self.density == 1:
            return {"m": torch.zeros_like(like), "v": torch.zeros_like(like)}
        kept = max(1, int(self.density * like.numel()))
        return {"m": like.new_zeros(kept), "v": like.new_zeros(kept), "seed": torch.zeros((), dtype=torch.int64, device=like.device)}

    def direction(self, g: Tensor, p: Tensor, s: dict[str, Tensor], t: int, rng: Rng) -> Tensor:
        """The step of gradient `g` at step `t` (from 1); `s` is updated in place. Resets before steps 1 + gap, 1 + 2 gap, ..."""
        done = (t - 1) % self.gap if self.gap else t - 1  # steps since the reset
        if done == 0:
            s["m"].zero_(), s["v"].zero_()
        if self.density == 1:
            return self._step(g, s, done, t)
        if done == 0:
            s["seed"].fill_(torch_rng(rng.child("places")).initial_seed())
        at = places(g.numel(), s["m"].numel(), int(s["seed"]), g.device)
        return torch.zeros_like(g).reshape(-1).index_copy_(0, at, self._step(g.reshape(-1)[at], s, done, t)).view_as(g)

    def _step(self, g: Tensor, s: dict[str, Tensor], done: int, t: int) -> Tensor:
        """Clip, Adam, warm up: of tensors that have one state for each number."""
        if self.theta and done >= max(1, self.settle):
            most = (s["v"] * (self.theta / (1 - self.beta2**done))).sqrt_()
            g = torch.where(most > 0, g.clamp(-most, most), g)
        s["m"].mul_(self.beta1).add_(g * (1 - self.beta1))
        s["v"].mul_(self.beta2).add_(g * g * (1 - self.beta2))
        m_hat = s["m"] / (1 - self.beta1 ** (done + 1))
        v_hat = s["v"] / (1 - self.beta2 ** (done + 1))
        return m_hat / (v_hat.sqrt() + self.eps) * warming(done if t > done + 1 else self.warm, self.warm)


def warming(done: int, warm: int) -> float:
    """Share of a step `done` steps after a reset: along a cosine from a hundredth to 1 at `warm`."""
    return 1.0 if done >= warm else 1 - (1 - WARM_FROM) * (1 + math.cos(math.pi * done / warm)) / 2


def places(numbers: int, kept: int, seed: int, device: torch.device) -> Tensor:
    """`kept` of `numbers` places (int64, rising): one, uniformly, of each of so many stretches."""
    edges = torch.arange(kept + 1, device=device) * numbers // kept
    draw = torch.rand(kept, generator=torch.Generator(device).manual_seed(seed), device=device, dtype=torch.float64)
    return edges[:-1] + (draw * edges.diff()).long()
