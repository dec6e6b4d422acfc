"""The driver of the optim seam for a model sharded over ranks: whole matrices visit one owner, which keeps their state.

An element-wise method steps each rank's shard where it lies. A method of scope "matrix" would be wrong there: its matrices are
gathered on one rank each, stepped, and the directions sent back. Ranks are those of one data-parallel mesh of FSDP2, whose
parameters are DTensors cut along their rows.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard

from bloomery.seams import Optim, Rng
from bloomery.train.optimizer import Claim, claim


class ShardedOptimizer:
    """Moves the parameters of `net`, made by `fully_shard`, along the direction of `method`, and of `rest` where that takes matrices only.

    All ranks make it and call its verbs in the same order. `rate`, `decay`, `rates` and the claims are those of the one-process driver,
    and so are the numbers, up to the order of sums. Raises ValueError for parameters that are laid out otherwise.
    """

    def __init__(
        self, net: nn.Module, method: Optim, rng: Rng, decay: float = 0.0, rest: Optim | None = None,
        rates: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        named = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
        self.parameters = dict(named)
        self.method, self.rest, self.rng, self.decay = method, rest if method.scope == "matrix" else method, rng, decay
        self.claims = claim(named, method.scope == "matrix", rates)
        if self.rest is None and not all(one.whole for one in self.claims):
            raise ValueError(f"{type(method).__name__} moves matrices only; name a second optimizer for the other parameters")
        self.group = mesh_group(named)
        self.rank, self.ranks = dist.get_rank(self.group), dist.get_world_size(self.group)
        self.owners = balance([one for one in self.claims if one.whole], self.ranks)
        self.states: dict[str, dict[str, Tensor]] = {}
        for one in self.claims:
            shard = self.parameters[one.name].detach().to_local()
            if not one.whole:
                self.states[one.name] = self.rest.init(shard)
            elif self.owners[one.name] == self.rank:
                self.states[one.name] = self.method.init(shard.new_zeros(one.shape))

    @torch.no_grad()
    def step(self, rate: float, t: int) -> None:
        """Decay, then move against the direction; `t` counts from 1. A parameter without a gradient is left alone, on all ranks alike."""
        rng = self.rng.child("step", t)
        moved = [one for one in self.claims if self.parameters[one.name].grad is not None]
        whole = [one for one in moved if one.whole]
        directions = self._visit(whole, rng, t)
        for one in moved:
            p = self.parameters[one.name]
            shard, g = p.to_local(), p.grad.to_local()
            if not one.whole:
                directions[one.name] = self.rest.direction(g, shard, self.states[one.name], t, rng.child(one.name, self.rank))
            if self.decay and one.decayed:
                shard.mul_(1 - rate * self.decay)
            shard.sub_(directions[one.name], alpha=rate * one.factor)
            p.grad = None

    def _visit(self, whole: list[Claim], rng: Rng, t: int) -> dict[str, Tensor]:
        """Each rank's rows of the directions of whole matrices. All gathers are under way at once, and so are all returns."""
        gathered = {}
        for one in whole:
            p = self.parameters[one.name]
            gathered[one.name] = [self._gather(one, part.to_local()) for part in (p.grad, p)]
        sent, found = [], {}
        for one in whole:
            for work, _ in gathered[one.name]:
                work.wait()
            parts = None
            if self.owners[one.name] == self.rank:
                g, p = (torch.cat([rows[:n] for rows, n in zip(into, self._rows(one), strict=True)]) for _, into in gathered[one.name])
                parts = self._cut(one, self.method.direction(g, p, self.states[one.name], t, rng.child(one.name)))
            gathered[one.name] = []
            found[one.name] = self.parameters[one.name].to_local().new_empty(self._rows(one)[0], *one.shape[1:])
            owner = dist.get_global_rank(self.group, self.owners[one.name])
            sent.append((dist.scatter(found[one.name], parts, owner, self.group, async_op=True), parts))
        for work, _ in sent:
            work.wait()
        return {one.name: found[one.name][: self._rows(one)[self.rank]] for one in whole}

    def _gather(self, one: Claim, shard: Tensor) -> tuple[dist.Work, list[Tensor] | None]:
        """Begin to bring all rows of a matrix to its owner, padded: a collective moves pieces of one size."""
        most = self._rows(one)[0]
        full = shard.contiguous() if len(shard) == most else torch.cat([shard, shard.new_zeros(most - len(shard), *one.shape[1:])])
        owner = self.owners[one.name]
        into = [torch.empty_like(full) for _ in range(self.ranks)] if owner == self.rank else None
        return dist.gather(full, into, dist.get_global_rank(self.group, owner), self.group, async_op=True), into

    def _cut(self, one: Claim, direction: Tensor) -> list[Tensor]:
        """A direction as one piece of rows for each rank, padded."""
        rows = self._rows(one)
        padded = direction.new_zeros(rows[0] * self.ranks, *one.shape[1:])
        padded[: one.shape[0]] = direction
        return list(padded.split(rows[0]))

    def _rows(self, one: Claim) -> list[int]:
        """Rows of each rank's shard: the first ranks get the larger ones."""
        most = -(-one.shape[0] // self.ranks)
        return [max(0, min(most, one.shape[0] - rank * most)) for rank in range(self.ranks)]

    def state_bytes(self) -> int:
        """Bytes of the states that this rank keeps."""
        return sum(s.numel() * s.element_size() for state in self.states.values() for s in state.values())

    def tensors(self) -> dict[str, Tensor]:
        """The states that this rank keeps, by name."""
        return {f"state|{owner}|{key}": s for owner, state in self.states.items() for key, s in state.items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave on the same rank of as many; KeyError where it belongs to another."""
        for owner, state in self.states.items():
            for key in state:
                state[key].copy_(tensors[f"state|{owner}|{key}"])


def balance(claims: list[Claim], ranks: int) -> dict[str, int]:
    """The owner of each matrix: the largest first, each to the rank that has least so far."""
    load, owners = [0] * ranks, {}
    for one in sorted(claims, key=lambda one: (one.start - one.stop, one.name)):
        owner = owners[one.name] = load.index(min(load))
        load[owner] += one.stop - one.start
    return owners


def mesh_group(named: list[tuple[str, nn.Parameter]]) -> dist.ProcessGroup:
    """The process group that all parameters are cut over, by rows; ValueError where they are not."""
    for name, p in named:
        if not isinstance(p, DTensor) or p.device_mesh.ndim != 1 or p.placements != (Shard(0),):
            raise ValueError(f"{name} is not cut by rows over one mesh of ranks; give a model made by fully_shard")
        if p.device_mesh != named[0][1].device_mesh:
            raise ValueError(f"{name} lies on another mesh than {named[0][0]}")
    return named[0][1].device_mesh.get_group()
