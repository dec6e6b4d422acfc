from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Diloco:
    """Copies step by themselves; every so many steps the mean of what they have changed is one outer step with Nesterov momentum.

    Douillard et al. 2023, DiLoCo, arXiv 2311.08105
    Differs: states of the inner optimizer are averaged at an outer step too, so that all copies are then the same and a checkpoint of any
    mesh can go on from it; a copy's gradient weighs by its share of the step's tokens; after the last step there is an outer step, however
    few came before it.
    Costs: sent a rank every `every` steps: 2 (n - 1) / n of the parameters and of the inner states; kept: two more numbers a parameter.
    """

    every: int = 20  # steps between two outer steps; checkpoints are written after one
    rate: float = 0.7  # of the outer step
    momentum: float = 0.9  # of the outer step

    axes = ()
    exact = False
    local = True

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every must be at least 1, got {self.every}")
        if self.rate <= 0 or not 0 <= self.momentum < 1:
            raise ValueError(f"rate must be above 0 and momentum from 0 to below 1, got {self.rate} and {self.momentum}")

    def place(self, net: nn.Module, mesh: Any) -> nn.Module:
        """Every copy is whole."""
        return net

    def unfit(self, cfg: Any, row: int, sizes: Mapping[str, int]) -> str:
        """Copies only."""
        other = next((axis for axis, size in sizes.items() if axis != "data" and size > 1), "")
        return f"diloco goes with copies of the whole model, and {other} divides it" if other else ""

    def begin(self, master: Tensor) -> dict[str, Tensor]:
        """What is kept: where the last outer step ended, and its momentum."""
        return {"anchor": master.clone(), "outer": torch.zeros_like(master)}

    def settled(self, step: int) -> bool:
        """Whether copies are the same after this step."""
        return step % self.every == 0

    @torch.no_grad()
    def after(self, mover: Any, mesh: Any, step: int, last: bool) -> None:
        """The outer step, where it is due."""
        if not (last or self.settled(step)):
            return
        anchor, momentum = mover.extra["anchor"], mover.extra["outer"]
        change = anchor - mover.master
        mesh.mean(change)
        for state in mover.states.values():
            for s in state.values():
                if s.is_floating_point():
                    mesh.mean(s)
        outer(anchor, change, momentum, self.rate, self.momentum)
        mover.master.copy_(anchor)
        mover.spread()


def outer(anchor: Tensor, change: Tensor, momentum: Tensor, rate: float, share: float) -> None:
    """Move `anchor` against `change` with Nesterov momentum, in place."""
    momentum.mul_(share).add_(change)
    anchor.sub_(change.add(momentum, alpha=share), alpha=rate)
