"""How the processes of a run are arranged, and all that the loop asks them: sums over ranks with other tokens, and what any of them wants.

`ALONE` answers for one process without torch.distributed. Numbers go through groups of their own on the processor ("gloo"), tensors
through those of the device.
"""

from __future__ import annotations

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
from bloomery.seams import Batch, Parallel

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
        self.dividing = False  # whether what is read is each rank's part of its rows, as a step's is
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
        self.batch = together(shape, BATCH, "gloo")
        self.batch_device = self.batch if device == "cpu" else together(shape, BATCH, None)
        for group in (self.world, self.files, self.batch, self.batch_device, *(self.device_mesh.get_group(axis) for axis in AXES)):
            dist.distributed_c10d._set_pg_timeout(timedelta(seconds=patience), group)

    def __str__(self) -> str:
        return written(self.sizes)

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes artifacts."""
        return self.rank == 0

    @property
    def cuts(self) -> bool:
        """Whether ranks hold parts of parameters; otherwise each holds all of them."""
        return self.sizes["shard"] > 1 or self.sizes["tensor"] > 1

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
        """Each number summed, in float64, over the ranks that see other tokens: the same on all of them."""
        if self.turn[1] == 1:
            return dict(numbers)
        total = torch.tensor(list(numbers.values()), dtype=torch.float64)
        with self.doing("the sum of the step's figures"):
            dist.all_reduce(total, group=self.batch)
        return dict(zip(numbers, total.tolist(), strict=True))

    def any(self, flags: Sequence[bool]) -> list[bool]:
        """Whether each flag is set on any rank."""
        if not self.many or not flags:
            return list(flags)
        found = torch.tensor([int(flag) for flag in flags], dtype=torch.int32)
        with self.doing("the agreement on what to do next"):
            dist.all_reduce(found, dist.ReduceOp.MAX, group=self.world)
        return [bool(one) for one in found.tolist()]

    def add(self, grad: Tensor) -> None:
        """Sum gradients in place over the ranks that see other tokens."""
        if self.turn[1] > 1:
            with self.doing("the sum of the gradients"):
                dist.all_reduce(grad, group=self.batch_device)

    def apart(self, tensors: Sequence[Tensor]) -> int:
        """How many of the tensors are not the same, bit for bit, on all ranks that see other tokens."""
        if self.turn[1] == 1:
            return 0
        sums = torch.stack([bits(t) for t in tensors]).cpu()
        ends = torch.cat([sums, -sums])
        dist.all_reduce(ends, dist.ReduceOp.MAX, group=self.batch)
        return int((ends[: len(sums)] != -ends[len(sums) :]).sum())

    # ---- what methods do

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
        store, size = dist.PrefixStore(f"roll/{step}", dist.distributed_c10d._get_default_store()), dist.get_world_size()
        keys, until = [str(rank) for rank in range(size)], time.monotonic() + ANSWER
        store.set(str(self.rank), "")
        while time.monotonic() < until and not store.check(keys):
            time.sleep(0.1)
        silent = [rank for rank in keys if not store.check([rank])]
        slow = f"a process was too slow or its connection broke ({first_line(said)})"
        who = f"rank {', '.join(silent)} does not answer" if silent else slow
        return f"step {step}, {self.what}: {who}; end what is left of the run, and the same command goes on from the last checkpoint"


def together(shape: tuple[int, ...], axes: Sequence[str], backend: str | None) -> Any:
    """The group of the ranks that differ from this one along these axes alone."""
    ranks = torch.arange(torch.Size(shape).numel()).view(shape)
    inside = [AXES.index(axis) for axis in axes]
    outside = [i for i in range(len(AXES)) if i not in inside]
    sets = ranks.permute(*outside, *inside).reshape(-1, torch.Size([shape[i] for i in inside]).numel())
    return dist.new_subgroups_by_enumeration(sets.tolist(), backend=backend)[0]


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
