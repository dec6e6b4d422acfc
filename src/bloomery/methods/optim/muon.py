from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bloomery.num.projection import orthogonal
from bloomery.seams import Rng


@dataclass(frozen=True)
class Muon:
    """The momentum of a whole matrix, made about orthogonal: all its directions move by about the same amount.

    Jordan et al. 2024, kellerjordan.github.io/posts/muon
    Differs: float32 instead of bfloat16 products. With `rms` above 0 a direction is scaled as Liu et al. 2025, arXiv 2502.16982,
    have it, so that one rate fits this and the AdamW beside it; 0 scales by sqrt(max(1, rows / columns)), as first published.
    Costs: one number of state per parameter; `steps` times three products of the matrix with its short side.
    """

    momentum: float = 0.95  # decay of the sum of gradients
    nesterov: bool = True  # look one step ahead
    steps: int = 5  # Newton-Schulz steps
    rms: float = 0.2  # root mean square of a direction of full rank; 0 = the published scale
    scope = "matrix"
    space = {"rate": (5e-4, 2e-2), "momentum": [0.9, 0.95]}

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, got {self.momentum}")
        if self.steps < 1 or self.rms < 0:
            raise ValueError(f"steps must be at least 1 and rms not negative, got {self.steps} and {self.rms}")

    def init(self, like: Tensor) -> dict[str, Tensor]:
        """No momentum yet."""
        return {"m": torch.zeros_like(like)}

    def direction(self, g: Tensor, p: Tensor, s: dict[str, Tensor], t: int, rng: Rng) -> Tensor:
        """The step of the gradient `g` of a matrix (rows, columns); `s` is updated in place."""
        s["m"].mul_(self.momentum).add_(g)
        u = orthogonal(g + self.momentum * s["m"] if self.nesterov else s["m"], self.steps)
        rows, columns = g.shape
        return u * (self.rms * math.sqrt(max(rows, columns)) if self.rms else math.sqrt(max(1.0, rows / columns)))
