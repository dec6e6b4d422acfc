"""Any method of the optim seam as a plain `torch.optim.Optimizer`, for loops that are not bloomery's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from bloomery.seams import Optim, Rng


class _AsTorch(torch.optim.Optimizer):
    def __init__(self, method: Optim, params: Iterable[Any], rate: float, decay: float, seed: int) -> None:
        if rate < 0 or decay < 0:
            raise ValueError(f"rate and decay must not be negative, got {rate} and {decay}")
        self.method, self.rng = method, Rng((seed, "optimizer"))
        super().__init__(params, {"lr": rate, "weight_decay": decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for i, group in enumerate(self.param_groups):
            for j, p in enumerate(group["params"]):
                if p.grad is not None:
                    self._move(p, group, self.rng.child(i, j))
        return loss

    def _move(self, p: Tensor, group: dict[str, Any], rng: Rng) -> None:
        state = self.state[p]
        if not state:
            state["step"] = 0
            state["method"] = self.method.init(p)
        state["step"] += 1
        direction = self.method.direction(p.grad, p, state["method"], state["step"], rng.child(state["step"]))
        p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(direction, alpha=group["lr"])


def as_torch(method: Optim, params: Iterable[Any], rate: float = 1e-3, decay: float = 0.0, seed: int = 0) -> torch.optim.Optimizer:
    """`method` over `params` (tensors or torch's parameter groups); `lr` and `weight_decay` of a group override rate and decay.

    A method of scope "matrix" must be given matrices only, and a network that is not sharded.
    """
    return _AsTorch(method, params, rate, decay, seed)
