"""How the processes of a run are arranged, and all that the loop asks them: sums over ranks with other tokens, and what any of them wants.

`ALONE` answers for one process without torch.distributed. Numbers go through groups of their own on the processor ("gloo"), tensors
through those of the device.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bloomery.core.mesh import AXES, BATCH, ROWS, written
from bloomery.core.ranks import PATIENCE
from bloomery.core.walk import StepFailed
from bloomery.num.clipping import joint_norm
from bloomery.seams import Batch, Parallel, Rng
from bloomery.train.pace import Pace

COPIES = tuple(axis for axis in BATCH if axis != "expert")  # ranks along these have the same experts
PIECE = 1 << 20  # bytes compared at a time
ANSWER = 5.0  # seconds that processes have to answer a roll call


class Mesh:
    """A mesh of `sizes` (see core/mesh.py) on `device`, laid out by `methods`; all ranks make it alike. Without sizes: one process.

    `precision` is the type of the working weights, which a method that gathers them needs; `patience` are the seconds that a collective
    waits for a process that does not come.
    """

    def __init__(
        self, sizes: Mapping[str, int] | None = None, methods: Sequence[Parallel] = (), device: str = "cpu",
        precision: torch.dtype = torch.float32, patience: float = PATIENCE,
    ) -> None:  # fmt: skip
        self.sizes = {axis: (sizes or {}).get(axis, 1) for axis in AXES}
        self.methods, self.precision = tuple(methods), precision
        self.orders: dict[str, Tensor] = {}  # by parameter: which of its rows lies where, where a method has laid them otherwise
        self.homes: dict[str, dict[str, int]] = {}  # by parameter: the place along an axis, where only the ranks of that place have it
        self.partial: set[str] = set()  # parameters of which every rank along `tensor` has a part of the gradient
        self.shapes: dict[str, tuple[int, ...]] = {}  # of all trained parameters of the model, before any was laid elsewhere
        self.still: list[str] = []  # parameters of the whole model that are not trained
        self.pipe: Any = None  # the stages of the model that lie here, an nn.pipeline.Pipe
        self.dividing = False  # whether what is read is each rank's part of its rows, as a step's is
        self.local = any(getattr(one, "local", False) for one in self.methods)  # whether ranks move by gradients of their own
        self.pace, self.laps = Pace(), []  # of this rank; (seconds of its own work, seconds that it was held up) of every rank's last step
        self.what = "waiting"  # for whom or what, where a process does not come
        shape = tuple(self.sizes.values())
        self.many = any(size > 1 for size in shape)
        self.rank = dist.get_rank() if self.many else 0
        place = [int(i[0]) for i in (torch.arange(torch.Size(shape).numel()).view(shape) == self.rank).nonzero(as_tuple=True)]
        self.place = dict(zip(AXES, place, strict=True))
        if not self.many:
            return
        from torch.distributed.device_mesh import init_device_mesh

        self.device_mesh = init_device_mesh(device, shape, mesh_dim_names=AXES)
        self.world, self.files = dist.new_group(backend="gloo"), dist.new_group(backend="gloo")
        self.groups: dict[tuple[tuple[str, ...], str | None], Any] = {}
        backend = "gloo" if device == "cpu" else None
        for axes in (BATCH, COPIES):
            self.along(axes), self.along(axes, backend)
        for axes in (("pipeline", *BATCH), ["pipeline"], ["expert"]):
            self.along(axes)
        self.backend = backend
        self.wait(patience)

    def wait(self, seconds: float) -> None:
        """From now on a collective waits so long for a process that does not come."""
        for group in (self.world, self.files, *self.groups.values(), *(self.device_mesh.get_group(axis) for axis in AXES)):
            dist.distributed_c10d._set_pg_timeout(timedelta(seconds=seconds), group)

    def along(self, axes: Sequence[str], backend: str | None = "gloo") -> Any:
        """The group of the ranks that differ from this one along these axes alone, None where that is no other."""
        long = tuple(axis for axis in AXES if axis in axes and self.sizes[axis] > 1)
        if long and (long, backend) not in self.groups:  # made when the mesh is, by all ranks
            self.groups[long, backend] = together(tuple(self.sizes.values()), long, backend)
        return self.groups.get((long, backend))

    def __str__(self) -> str:
        return written(self.sizes)

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes artifacts."""
        return self.rank == 0

    @property
    def size(self) -> int:
        """How many processes there are."""
        return math.prod(self.sizes.values())

    @property
    def cuts(self) -> bool:
        """Whether ranks hold parts of parameters."""
        return self.sizes["shard"] > 1 or self.sizes["tensor"] > 1

    @property
    def divides(self) -> bool:
        """Whether a rank will hold less than the whole model."""
        return any(self.sizes[axis] > 1 for axis in ("pipeline", "shard", "expert", "tensor"))

    @property
    def ends(self) -> bool:
        """Whether the model's last block lies here, and so its head."""
        return self.pipe is None or self.pipe.ends

    @property
    def rows(self) -> tuple[int, int]:
        """Which part of a step's rows this rank reads, of how many."""
        return self._index(ROWS)

    @property
    def turn(self) -> tuple[int, int]:
        """Which of the ranks that can measure different rows this is, of how many."""
        return self._index(BATCH)

    def _index(self, axes: Sequence[str]) -> tuple[int, int]:
        at, of = 0, 1
        for axis in axes:
            at, of = at * self.sizes[axis] + self.place[axis], of * self.sizes[axis]
        return at, of

    # ---- what ranks tell each other

    def sums(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """Each number summed, in float64, over the ranks that see other tokens, as those that hold the head know it; the same on all."""
        if self.turn[1] == self.sizes["pipeline"] == 1:
            return dict(numbers)
        total = torch.tensor(list(numbers.values()), dtype=torch.float64) * self.ends
        with self.doing("the sum of the step's figures"):
            dist.all_reduce(total, group=self.along(("pipeline", *BATCH)))
        return dict(zip(numbers, total.tolist(), strict=True))

    def over(self, axis: str, number: float) -> float:
        """A number summed over the ranks along one axis."""
        if self.sizes[axis] == 1:
            return number
        total = torch.tensor([number], dtype=torch.float64)
        dist.all_reduce(total, group=self.along([axis]))
        return float(total)

    def ended(self, t: Tensor) -> Tensor:
        """A tensor as the rank knows it that has the head; the same shape on all."""
        if self.pipe is not None:
            t = t * self.ends
            dist.all_reduce(t, group=self.along(["pipeline"]))
        return t

    def any(self, flags: Sequence[bool], lap: bool = False) -> list[bool]:
        """Whether each flag is set on any rank. With `lap` ranks tell each other, too, how long their step took them."""
        if not self.many or not flags:
            return list(flags)
        told = torch.zeros(dist.get_world_size() if lap else 0, 2, dtype=torch.float64)
        if lap:
            told[self.rank] = torch.tensor(self.pace.lap())
        found = torch.cat([torch.tensor([float(flag) for flag in flags], dtype=torch.float64), told.view(-1)])
        with self.doing("the agreement on what to do next"):
            dist.all_reduce(found, dist.ReduceOp.MAX, group=self.world)
        self.laps = found[len(flags) :].view(-1, 2).tolist()
        return [bool(one) for one in found[: len(flags)].tolist()]

    def mean(self, t: Tensor) -> None:
        """The mean of a tensor over the ranks that see other tokens, in place: the same bits on all of them."""
        with self.doing("the mean of the copies"):
            dist.all_reduce(t, group=self.along(BATCH, self.backend))
        t.div_(self.turn[1])

    def straggler(self, step: int) -> str:
        """A sentence that names the rank which the others have waited for in the last step, "" where none did much longer than they."""
        return self.pace.told(step, self.laps) if self.many and self.laps else ""

    def alone(self, name: str) -> bool:
        """Whether a parameter is an expert's, which only ranks of one place along that axis have."""
        return "expert" in self.homes.get(name, ())

    def at_home(self, name: str) -> bool:
        """Whether this rank has a parameter as its own; of a tied head that is where the embedding is."""
        return self.homes.get(name, {}).get("pipeline", self.place["pipeline"]) == self.place["pipeline"]

    def add(self, grads: Mapping[str, Tensor], flat: Tensor | None = None) -> None:
        """Sum gradients in place over the ranks that see other tokens and have the parameter; `flat` holds all of them. Where ranks move by
        themselves, each takes its own for all."""
        if self.local:
            torch._foreach_mul_([flat] if flat is not None else list(grads.values()), self.turn[1])
            return
        if self.turn[1] == 1:
            return
        with self.doing("the sum of the gradients"):
            for axes, own in ((BATCH, False), (COPIES, True)):
                names, group = [name for name in grads if self.alone(name) == own], self.along(axes, self.backend)
                if not names or group is None:
                    continue
                whole = flat is not None and len(names) == len(grads)
                joined = flat if whole else torch.cat([grads[name].reshape(-1) for name in names])
                dist.all_reduce(joined, group=group)
                if not whole:
                    spread(joined, [grads[name] for name in names])

    def join(self, found: Mapping[str, Tensor]) -> None:
        """Sum in place the gradients of which several ranks that read the same tokens have a part: those along `tensor`, or both ends of a
        pipe with a tied head."""
        if self.pipe is not None and self.pipe.tied in found:
            found[self.pipe.tied].add_(self.pipe.swapped(found[self.pipe.tied]))
        if grads := {name: g for name, g in found.items() if name in self.partial}:
            joined = torch.cat([g.reshape(-1) for g in grads.values()])
            dist.all_reduce(joined, group=self.device_mesh.get_group("tensor"))
            spread(joined, list(grads.values()))

    def norm(self, grads: Mapping[str, Tensor]) -> float:
        """Of all gradients of the model together, each counted once; of those that ranks hold parts of (DTensor) too."""
        grads = {name: g for name, g in grads.items() if self.at_home(name)}
        shared = joint_norm([g for name, g in grads.items() if not self.alone(name)]) ** 2
        own = joint_norm([g for name, g in grads.items() if self.alone(name)]) ** 2 if self.sizes["expert"] > 1 else 0.0
        return self.over("pipeline", shared + self.over("expert", own)) ** 0.5

    def apart(self, tensors: Mapping[str, Tensor]) -> int:
        """How many of the tensors are not the same, bit for bit, on all ranks that should have the same."""
        if not self.many:
            return 0
        found = 0
        for axes, own in ((BATCH, False), (COPIES, True)):
            sums, group = [bits(t) for name, t in tensors.items() if self.alone(name) == own], self.along(axes)
            if sums and group is not None:
                sums = torch.stack(sums).cpu()
                ends = torch.cat([sums, -sums])
                dist.all_reduce(ends, dist.ReduceOp.MAX, group=group)
                found += int((ends[: len(sums)] != -ends[len(sums) :]).sum())
        if self.pipe is not None and self.pipe.tied in tensors:
            own = bits(tensors[self.pipe.tied]).reshape(1)
            found += int((self.pipe.swapped(own) != own).sum())
        worst = torch.tensor([found])
        dist.all_reduce(worst, dist.ReduceOp.MAX, group=self.world)
        return int(worst)

    def gathered(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of every trained parameter what the ranks that have it hold under its name: all ask, and all get them."""
        if not self.homes:
            return dict(tensors)
        found = {}
        for name, shape in self.shapes.items():
            t = (
                tensors[name].contiguous()
                if name in tensors and self.at_home(name)
                else torch.empty(shape, device=self.device_mesh.device_type)
            )
            home = self.homes.get(name, {})
            for axis in ("expert", "pipeline"):  # those of another stage have nobody to ask along the first
                if axis in home and (axis == "pipeline" or self.at_home(name)):
                    group = self.device_mesh.get_group(axis)
                    dist.broadcast(t, dist.get_global_rank(group, home[axis]), group=group)
            found[name] = t
        return found

    # ---- what methods do

    def passes(self, backward: Any, net: nn.Module, micros: Sequence[Batch], value: Callable[..., Any], rng: Rng) -> dict[str, float]:
        """Forward and backward pass of a step: those of `backward`, or of the method that has laid the blocks over stages."""
        if self.pipe is None:
            return backward.backward(net, micros, value, rng)
        return {"loss": self.pipe.run(micros, value)}

    def own(self, micro: Batch) -> Batch:
        """This rank's part of a micro-batch."""
        for method in self.methods:
            if hasattr(method, "split"):
                micro = method.split(micro, self)
        return micro

    def before(self, net: nn.Module, number: int, of: int) -> None:
        """Micro-batch `number` of a step begins; -1: the loss looks at the whole step."""
        self.what = "the forward and backward pass"
        for method in self.methods:
            if hasattr(method, "before"):
                method.before(net, self, number, of)

    def after(self, mover: Any, step: int, last: bool) -> None:
        """What methods do after the update of a step."""
        for method in self.methods:
            if self.many and hasattr(method, "after"):
                method.after(mover, self, step, last)

    def settled(self, step: int) -> bool:
        """Whether copies are the same after this step, as a checkpoint needs them."""
        return all(method.settled(step) for method in self.methods if self.many and hasattr(method, "settled"))

    @contextmanager
    def divided(self) -> Iterator[None]:
        """Inside, the model reads parts of rows."""
        self.dividing = True
        try:
            yield
            self.what = "the update"
        finally:
            self.dividing = False

    # ---- faults

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Inside, this is what a process waits for; it stays so after an error, to be named."""
        before, self.what = self.what, what
        with self.pace.waiting():
            yield
        self.what = before

    @contextmanager
    def faults(self, step: Callable[[], int]) -> Iterator[None]:
        """StepFailed that names rank, step and collective, where a process has gone or does not come within the launch's patience."""
        try:
            yield
        except RuntimeError as wrong:
            if not self.many or not lost(wrong):
                raise
            raise StepFailed(self.roll_call(step(), str(wrong))) from wrong

    def roll_call(self, step: int, said: str) -> str:
        """Which ranks do not answer, in a sentence."""
        try:
            silent = self.absent(dist.PrefixStore(f"roll/{step}", dist.distributed_c10d._get_default_store()))
        except dist.DistError:  # where rank 0 keeps the names, as under Slurm, they end with it
            silent = ["0"]
        slow = f"a process was too slow or its connection broke ({first_line(said)})"
        who = f"rank {', '.join(silent)} does not answer" if silent else slow
        return f"step {step}, {self.what}: {who}; end what is left of the run, and the same command goes on from the last checkpoint"

    def absent(self, store: Any) -> list[str]:
        """The ranks that have not written their names there within some seconds."""
        keys, until = [str(rank) for rank in range(dist.get_world_size())], time.monotonic() + ANSWER
        store.set(str(self.rank), "")
        while time.monotonic() < until and not store.check(keys):
            time.sleep(0.1)
        return [rank for rank in keys if not store.check([rank])]


def met(sizes: Mapping[str, int], *more: Any) -> Mesh:
    """A mesh, which its processes make together; StepFailed where one of them goes or does not come meanwhile."""
    try:
        return Mesh(sizes, *more)
    except RuntimeError as wrong:
        if not lost(wrong):
            raise
        why = f"a process has gone or does not come while {written(sizes)} is laid out ({first_line(str(wrong))})"
        raise StepFailed(f"{why}; end what is left of the run, and the same command begins again") from wrong


def together(shape: tuple[int, ...], axes: Sequence[str], backend: str | None) -> Any:
    """The group of the ranks that differ from this one along these axes alone."""
    ranks = torch.arange(torch.Size(shape).numel()).view(shape)
    inside = [AXES.index(axis) for axis in axes]
    outside = [i for i in range(len(AXES)) if i not in inside]
    sets = ranks.permute(*outside, *inside).reshape(-1, torch.Size([shape[i] for i in inside]).numel())
    return dist.new_subgroups_by_enumeration(sets.tolist(), backend=backend)[0]


def spread(joined: Tensor, into: Sequence[Tensor]) -> None:
    """What was joined end to end, back to where it came from."""
    for t, part in zip(into, joined.split([t.numel() for t in into]), strict=True):
        t.copy_(part.view(t.shape))


def bits(t: Tensor) -> Tensor:
    """A number that two tensors of different bits hardly share: their bytes as integers, each times its place."""
    total = torch.zeros((), dtype=torch.int64, device=t.device)
    for at, part in enumerate(t.detach().contiguous().view(-1).view(torch.uint8).split(PIECE)):
        place = torch.arange(1, len(part) + 1, dtype=torch.int64, device=t.device)
        total += (at + 1) * (part * place).sum()
    return total


def lost(wrong: RuntimeError) -> bool:
    """Whether an error is that of a connection or of a process that did not come, however the library at hand words it."""
    return isinstance(wrong, dist.DistError) or any(word in str(wrong) for word in ("gloo", "NCCL", "Connection", "Timed out"))


def first_line(text: str) -> str:
    return text.splitlines()[0][:200] if text else ""


ALONE = Mesh()
