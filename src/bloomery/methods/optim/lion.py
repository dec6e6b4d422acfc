from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bloomery.seams import Rng


@dataclass(frozen=True)
class Lion:
    """The sign of a mean of gradients: every number moves by the same amount, and one number of state is enough.

    Chen et al. 2023, arXiv 2302.06675
    Differs: rate and decay are the driver's, so this returns the sign alone.
    Costs: one number of state per parameter; the rate is 3 to 10 times smaller than AdamW's.
    """

    beta1: float = 0.9  # share of the old mean inside the sign
    beta2: float = 0.99  # decay of the mean of gradients
    scope = "element"
    space = {"rate": (1e-4, 3e-3), "beta1": [0.9, 0.95], "beta2": [0.98, 0.99]}

    def __post_init__(self) -> None:
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")

    def init(self, like: Tensor) -> dict[str, Tensor]:
        """The mean starts at zero."""
        return {"m": torch.zeros_like(like)}

    def direction(self, g: Tensor, p: Tensor, s: dict[str, Tensor], t: int, rng: Rng) -> Tensor:
        """The step of gradient `g`; `s` is updated in place."""
        u = s["m"].lerp(g, 1 - self.beta1).sign_()
        s["m"].lerp_(g, 1 - self.beta2)
        return u
