from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bloomery.seams import Rng


@dataclass(frozen=True)
class AdamW:
    """Adam: the running mean of the gradient over the root of its running square; weight decay stays apart from it.

    Loshchilov & Hutter 2019, arXiv 1711.05101
    Differs: rate and decay are the driver's, so this returns m_hat / (sqrt(v_hat) + eps) alone.
    Costs: two numbers of state per parameter.
    """

    beta1: float = 0.9  # decay of the mean of gradients
    beta2: float = 0.95  # decay of the mean of squared gradients
    eps: float = 1e-8  # added to the root of the squares
    scope = "element"
    space = {"rate": (5e-4, 1e-2), "beta2": [0.95, 0.98, 0.99]}

    def __post_init__(self) -> None:
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")
        if self.eps <= 0:
            raise ValueError(f"eps must be above 0, got {self.eps}")

    def init(self, like: Tensor) -> dict[str, Tensor]:
        """Both means start at zero."""
        return {"m": torch.zeros_like(like), "v": torch.zeros_like(like)}

    def direction(self, g: Tensor, p: Tensor, s: dict[str, Tensor], t: int, rng: Rng) -> Tensor:
        """The step of gradient `g` at step `t` (from 1); `s` is updated in place."""
        s["m"].mul_(self.beta1).add_(g * (1 - self.beta1))
        s["v"].mul_(self.beta2).add_(g * g * (1 - self.beta2))
        m_hat = s["m"] / (1 - self.beta1**t)
        v_hat = s["v"] / (1 - self.beta2**t)
        return m_hat / (v_hat.sqrt() + self.eps)

    def update(self, g: Tensor, p: Tensor, s: dict[str, Tensor], t: int, rate: float, decay: float) -> None:
        """The whole step by torch's fused kernel, which reads and writes everything once."""
        at = torch.full((), float(t), device=p.device)
        numbers = {"lr": rate, "beta1": self.beta1, "beta2": self.beta2, "weight_decay": decay, "eps": self.eps}
        torch._fused_adamw_([p], [g], [s["m"]], [s["v"]], [], [at], **numbers, amsgrad=False, maximize=False)
