"""After the first steps, and once every expert has been given a token: every parameter asked to train has had a gradient and has
changed, and no other has.

A run may end before each expert has been given enough tokens. Its parameters are then `idle` and no fault, if the same parameter of
another expert of the layer has had a gradient, which shows that it would have had one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from bloomery.nn.mixture import Mixture
from bloomery.num.clipping import local
from bloomery.train.mesh import ALONE, Mesh

STEPS = 3
EXPERT = re.compile(r"(.+)\.experts\.\d+\.(.+)")  # a layer's experts, and what of one it is


class Audit:
    """Watches the first steps of a run; `verdict` is kept in the checkpoint, so that a resumed run does not ask again, and before there is
    one the names that have had no gradient yet (`silent`).

    Where ranks hold parts of parameters, what one of them has seen counts for all.
    """

    def __init__(
        self, net: nn.Module, optimizer: Any, done: dict[str, Any] | None = None, mesh: Mesh = ALONE, silent: Iterable[str] | None = None
    ) -> None:
        self.optimizer, self.verdict, self.steps, self.mesh = optimizer, done, 0, mesh
        self.silent = {one.name for one in optimizer.every} if silent is None else set(silent)
        if done is None:
            self.before = {name: p.clone() for name, p in optimizer.masters().items()}
            self.frozen = {name: (p, p.clone()) for name, p in optimizer.frozen().items()}
            mixtures = [(name, unit) for name, unit in net.named_modules() if isinstance(unit, Mixture)]
            self.waiting = {f"{name}.experts.{key}" for name, unit in mixtures for key, _ in unit.experts.named_parameters()}

    def gradients(self, grads: list[torch.Tensor]) -> None:
        """Look at the gradients of a step, in the order of the optimizer's claims."""
        if self.verdict is None and self.silent:
            here = {one.name: g for one, g in zip(self.optimizer.claims, grads, strict=True)}
            self.silent -= self._any({name: bool(local(here[name]).any()) for name in self.silent if name in here}, sorted(self.silent))

    def _any(self, here: dict[str, bool], names: list[str]) -> set[str]:
        """Those of the names for which it is so on any rank; a rank does not know of parameters that lie elsewhere."""
        found = self.mesh.any([here.get(name, False) for name in names])
        return {name for name, so in zip(names, found, strict=True) if so}

    def after_step(self, last: bool = False) -> None:
        """Once enough steps are done, or the last one is: {"trained", "silent", "unmoved", "moved"} of parameter names and counts, and
        "idle" where there are such."""
        if self.verdict is not None:
            return
        self.steps += 1
        if self.steps < STEPS and not last:
            return
        if self.mesh.any([bool(self.silent & self.waiting)])[0] and not last:  # an expert waits for the first token that chooses it
            return
        now, names = self.optimizer.masters(), [one.name for one in self.optimizer.every]
        changed = self._any({name: not torch.equal(p, now[name]) for name, p in self.before.items()}, names)
        still = self.mesh.still if self.mesh.many else list(self.frozen)
        other = self._any({name: not torch.equal(p, old) for name, (p, old) in self.frozen.items()}, still)
        idle = self.idle()
        unmoved = [name for name in names if name not in changed and name not in idle]
        moved = [name for name in still if name in other]
        silent = sorted(self.silent - idle)
        self.verdict = {"trained": len(names), "silent": silent, "unmoved": unmoved, "moved": moved}
        self.verdict |= {"idle": sorted(idle)} if idle else {}
        del self.before, self.frozen

    def idle(self) -> set[str]:
        """Parameters of experts that have had no gradient, where the same of another expert of their layer has had one."""
        heard = {found.groups() for one in self.optimizer.every if one.name not in self.silent and (found := EXPERT.fullmatch(one.name))}
        return {name for name in self.silent if (found := EXPERT.fullmatch(name)) and found.groups() in heard}
