"""After the first steps, and once every expert has been given a token: every parameter asked to train has had a gradient and has
changed, and no other has."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bloomery.nn.mixture import Mixture
from bloomery.train.optimizer import Optimizer

STEPS = 3


class Audit:
    """Watches the first steps of a run; `verdict` is kept in the checkpoint, so that a resumed run does not ask again."""

    def __init__(self, net: nn.Module, optimizer: Optimizer, done: dict[str, Any] | None = None) -> None:
        self.optimizer, self.verdict, self.steps = optimizer, done, 0
        if done is None:
            self.before = optimizer.master.clone()
            self.frozen = {name: (p, p.detach().clone()) for name, p in net.named_parameters() if not p.requires_grad}
            self.silent = {one.name for one in optimizer.claims}
            mixtures = [(name, unit) for name, unit in net.named_modules() if isinstance(unit, Mixture)]
            self.idle = {f"{name}.experts.{key}" for name, unit in mixtures for key, _ in unit.experts.named_parameters()}

    def gradients(self, grads: list[torch.Tensor]) -> None:
        """Look at the gradients of a step, in the order of the optimizer's claims."""
        if self.verdict is None:
            pairs = zip(self.optimizer.claims, grads, strict=True)
            self.silent -= {one.name for one, g in pairs if one.name in self.silent and bool(g.any())}

    def after_step(self, last: bool = False) -> None:
        """Once enough steps are done, or the last one is: {"trained", "silent", "unmoved", "moved"} of parameter names and counts."""
        if self.verdict is not None:
            return
        self.steps += 1
        if (self.steps < STEPS or self.silent & self.idle) and not last:  # an expert waits for the first token that chooses it
            return
        changed = self.optimizer.master != self.before
        unmoved = [one.name for one in self.optimizer.claims if not bool(changed[one.start : one.stop].any())]
        moved = [name for name, (p, old) in self.frozen.items() if not torch.equal(p, old)]
        self.verdict = {"trained": len(self.optimizer.claims), "silent": sorted(self.silent), "unmoved": unmoved, "moved": moved}
        del self.before, self.frozen
