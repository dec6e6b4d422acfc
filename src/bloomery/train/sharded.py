"""The driver of the optim seam for a model sharded over ranks: whole matrices visit one owner, which keeps their state.

An element-wise method steps each rank's shard where it lies. A method of scope "matrix" would be wrong there: its matrices are
gathered on one rank each, stepped, and the directions sent back. That is for parameters that FSDP2 has cut along their rows over one axis
of a mesh; those that are cut in other ways too are gathered on all ranks, which all step them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from bloomery.num.clipping import local
from bloomery.seams import Optim, Rng
from bloomery.train.mesh import ALONE, Mesh
from bloomery.train.optimizer import Claim, Optimizer, claim, every


class ShardedOptimizer:
    """Moves the parameters of `net`, cut by `fully_shard`, along the direction of `method`, and of `rest` where that takes matrices only.

    All ranks make it and call its verbs in the same order. `rate`, `decay`, `rates` and the claims are those of the one-process driver,
    and so are the numbers, up to the order of sums; its verbs do the same too. Raises ValueError for parameters that are laid out
    otherwise, and for a method whose state belongs to several numbers of an element-wise part together.
    """

    def __init__(
        self, net: nn.Module, method: Optim, rng: Rng, decay: float = 0.0, rest: Optim | None = None,
        rates: Mapping[str, float] | None = None, mesh: Mesh = ALONE,
    ) -> None:  # fmt: skip
        self.mesh = mesh
        named = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
        self.parameters = dict(named)
        self.still = {name: p for name, p in net.named_parameters() if not p.requires_grad}
        self.method, self.rest, self.rng, self.decay = method, rest if method.scope == "matrix" else method, rng, decay
        self.claims = claim(named, method.scope == "matrix", rates)
        self.every = every(mesh, self.claims)
        if self.rest is None and not all(one.whole for one in self.claims):
            raise ValueError(f"{type(method).__name__} moves matrices only; name a second optimizer for the other parameters")
        self.group = None if mesh.sizes["tensor"] > 1 else mesh_group(named)
        if self.group is not None:
            self.rank, self.ranks = dist.get_rank(self.group), dist.get_world_size(self.group)
            self.owners = balance([one for one in self.claims if one.whole], self.ranks)
        self.states: dict[str, dict[str, Tensor]] = {}
        for one in self.claims:
            shard = local(self.parameters[one.name].detach())
            if not one.whole:
                state = self.states[one.name] = self.rest.init(shard)
                if any(s.shape != shard.shape for s in state.values()):
                    raise ValueError(f"{type(self.rest).__name__} keeps numbers of several parameters together, which cannot be cut")
            elif self.group is None or self.owners[one.name] == self.rank:
                self.states[one.name] = self.method.init(shard.new_zeros(one.shape))

    def stream(self) -> None:
        """Gradients of several micro-batches are added up by FSDP2, in its own type."""

    def collect(self) -> list[Tensor]:
        """The step's gradients, summed over ranks, in the order of `claims`; no gradient is 0."""
        for p in self.parameters.values():
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            elif isinstance(p, DTensor) and p.grad.placements != p.placements:  # that of an embedding cut by rows is whole
                p.grad = p.grad.redistribute(placements=p.placements)
        grads = {one.name: self.parameters[one.name].grad for one in self.claims}
        if self.mesh.sizes["shard"] == 1:  # otherwise FSDP2 has done it
            self.mesh.add({name: local(g) for name, g in grads.items()})
        self.mesh.join({name: local(g) for name, g in grads.items()})
        return list(grads.values())

    def norm(self) -> float:
        """Of all gradients of the step together, on all ranks."""
        return self.mesh.norm({one.name: self.parameters[one.name].grad for one in self.claims})

    def spend(self) -> None:
        """The gradients have done their work."""
        for p in self.parameters.values():
            p.grad = None

    @torch.no_grad()
    def step(self, rate: float, t: int) -> None:
        """Decay, then move against the direction; `t` counts from 1. A parameter without a gradient is left alone, on all ranks alike."""
        rng = self.rng.child("step", t)
        moved = [one for one in self.claims if self.parameters[one.name].grad is not None]
        whole = [one for one in moved if one.whole]
        directions = self._everywhere(whole, rng, t) if self.group is None else self._visit(whole, rng, t)
        for one in moved:
            p = self.parameters[one.name]
            shard, g = local(p), local(p.grad)
            if not one.whole:
                draw = rng.child(one.name, *place(p))
                directions[one.name] = self.rest.direction(g, shard, self.states[one.name], t, draw)
            if self.decay and one.decayed:
                shard.mul_(1 - rate * self.decay)
            shard.sub_(directions[one.name], alpha=rate * one.factor)
            p.grad = None

    def _everywhere(self, claims: list[Claim], rng: Rng, t: int) -> dict[str, Tensor]:
        """Each rank's part of the directions of whole matrices, which all ranks work out."""
        found = {}
        for one in claims:
            p = self.parameters[one.name]
            whole = self.method.direction(self._ordered(one.name, full(p.grad)), self._ordered(one.name, full(p)), self.states[one.name], t,
                                          rng.child(one.name))  # fmt: skip
            found[one.name] = self._part(one.name, whole, p)
        return found

    def _ordered(self, name: str, whole: Tensor) -> Tensor:
        """A whole parameter with its rows as in one process, where a method of the mesh has laid them otherwise."""
        return whole if name not in self.mesh.orders else whole[self.mesh.orders[name].argsort()]

    def _part(self, name: str, whole: Tensor, p: Tensor) -> Tensor:
        """What a rank holds of it."""
        whole = whole if name not in self.mesh.orders else whole[self.mesh.orders[name]]
        return local(distribute_tensor(whole, p.device_mesh, p.placements, src_data_rank=None)) if isinstance(p, DTensor) else whole

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

    def masters(self) -> dict[str, Tensor]:
        """What this rank holds of the float32 masters, by parameter name."""
        return {one.name: local(self.parameters[one.name].detach()) for one in self.claims}

    def frozen(self) -> dict[str, Tensor]:
        """What this rank holds of the parameters that are not trained."""
        return {name: local(p.detach()) for name, p in self.still.items()}

    def weights(self) -> dict[str, Tensor]:
        """The whole float32 masters by parameter name, gathered: every rank asks, and every rank gets them."""
        return self.mesh.gathered({one.name: self._ordered(one.name, full(self.parameters[one.name].detach())) for one in self.claims})

    def gradients(self) -> dict[str, Tensor]:
        """The whole gradients by parameter name, gathered likewise."""
        return self.mesh.gathered({one.name: self._ordered(one.name, full(self.parameters[one.name].grad)) for one in self.claims})

    def tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint must hold: this rank's parts, under the names that the one-process driver gives them. Parameters whose rows
        lie in another order are gathered, so that any mesh can read them: every rank asks."""
        found: dict[str, Tensor] = {f"weight|{one.name}": self._kept(one.name) for one in self.claims}
        whole = {one.name for one in self.claims if one.whole}
        for owner, state in self.states.items():
            for key, s in state.items():
                found[f"state|{owner}|{key}"] = s if owner in whole else self._kept(owner, s)
        return found

    def _kept(self, name: str, shard: Tensor | None = None) -> Tensor:
        """A parameter, or what is laid out as it is, as it is kept."""
        p = self.parameters[name]
        t = p.detach() if shard is None else like(p, shard)
        return self._ordered(name, full(t)) if name in self.mesh.orders else t

    def layout(self) -> list[list]:
        """Names, shapes and order of the parameters: what a checkpoint must agree with."""
        return [[one.name, list(one.shape)] for one in self.every]

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `tensors` gave; KeyError where it belongs to another optimizer or model."""
        whole = {one.name for one in self.claims if one.whole}
        for one in self.claims:
            local(self.parameters[one.name]).copy_(self._taken(one.name, tensors[f"weight|{one.name}"]))
        for owner, state in self.states.items():
            for key, s in state.items():
                kept = tensors[f"state|{owner}|{key}"]
                s.copy_(kept if owner in whole else self._taken(owner, kept))
        self.spend()

    def _taken(self, name: str, kept: Tensor) -> Tensor:
        """This rank's part of what `_kept` gave."""
        return self._part(name, kept, self.parameters[name]) if name in self.mesh.orders else local(kept)


def like(p: Tensor, shard: Tensor) -> Tensor:
    """A shard as part of a tensor that is laid out as `p` is."""
    if not isinstance(p, DTensor):
        return shard
    return DTensor.from_local(shard, p.device_mesh, p.placements, run_check=False, shape=p.shape, stride=p.stride())


def full(t: Tensor) -> Tensor:
    """All of a tensor, gathered where ranks hold parts of it."""
    return t.full_tensor() if isinstance(t, DTensor) else t


def place(p: Tensor) -> tuple[int, ...]:
    """Which part of a parameter this rank holds; ranks that hold the same part draw the same numbers."""
    if not isinstance(p, DTensor):
        return ()
    return tuple(p.device_mesh.get_local_rank(i) for i, one in enumerate(p.placements) if not one.is_replicate())


def placed(
    net: nn.Module, mesh: Mesh, method: Optim, rng: Rng, decay: float, dtype: torch.dtype, rest: Optim | None = None,
    rates: Mapping[str, float] | None = None, home: Any = None, folder: Path | None = None,
) -> Optimizer | ShardedOptimizer:  # fmt: skip
    """Lay `net` over a mesh by the mesh's methods, and give what moves it there; `home` is a method that says where states lie, in files
    of `folder` where on a disk."""
    if mesh.many:
        mesh.shapes = {name: tuple(p.shape) for name, p in net.named_parameters() if p.requires_grad}
        mesh.still = [name for name, p in net.named_parameters() if not p.requires_grad]
    for one in sorted(mesh.methods, key=lambda one: ("shard" in one.axes, "pipeline" in one.axes)):  # FSDP2 goes around what is left here
        one.place(net, mesh)
    if mesh.cuts:
        return ShardedOptimizer(net, method, rng, decay, rest, rates, mesh)
    if home is not None:
        from bloomery.train.offload import OffloadedOptimizer

        return OffloadedOptimizer(net, method, rng, decay, dtype, rest, rates, mesh, home=home, folder=folder)
    mover = Optimizer(net, method, rng, decay, dtype, rest, rates, mesh)
    for one in mesh.methods:
        if hasattr(one, "begin"):
            mover.extra = one.begin(mover.master)
    return mover


def balance(claims: list[Claim], ranks: int) -> dict[str, int]:
    """The owner of each matrix: the largest first, each to the rank that has least so far."""
    load, owners = [0] * ranks, {}
    for one in sorted(claims, key=lambda one: (one.start - one.stop, one.name)):
        owner = owners[one.name] = load.index(min(load))
        load[owner] += one.stop - one.start
    return owners


def mesh_group(named: list[tuple[str, nn.Parameter]]) -> dist.ProcessGroup:
    """The process group that all parameters are cut over, by rows; ValueError where they are not."""
    found: dict[tuple[int, ...], dist.ProcessGroup] = {}
    for name, p in named:
        cut = [i for i, one in enumerate(p.placements) if one.is_shard()] if isinstance(p, DTensor) else []
        if len(cut) != 1 or p.placements[cut[0]] != Shard(0):
            raise ValueError(f"{name} is not cut by rows over one axis of a mesh; give a model made by fully_shard")
        group = p.device_mesh.get_group(cut[0])
        found.setdefault(tuple(dist.get_process_group_ranks(group)), group)
        if len(found) > 1:
            raise ValueError(f"{name} lies on another mesh than {named[0][0]}")
    return next(iter(found.values()))
