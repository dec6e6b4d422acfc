"""What code does with tensors, told by running it on tensors that have shapes and no numbers: bytes alive at once, and every operation.

torch's fake tensors go the same way as real ones, autograd included, and no memory is asked for. Where code asks a tensor for a
number (the norm of a gradient, whether any is not zero) it is told 1.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from bloomery.train.heap import Event

ASKED = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default, torch.ops.aten.equal.default)
Spec = tuple  # ("t", type, shape, stride) of a tensor; anything else stands for itself


class Trace(TorchDispatchMode):
    """Counts while it is entered; `now` and `peak` are bytes of storages that were made inside and are still held.

    `calls` counts operations by (operator, arguments with tensors as specs, named ones, whether a compiled block does it); views, which
    do nothing, are left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.alive: dict[int, Any] = {}
        self.events: list[Event] = []  # in their order: storages made, with their bytes, and let go
        self.made = 0
        self.calls: Counter = Counter()
        self.fusing = 0  # above 0 while a compiled block runs, whose operations but products become few

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if func in ASKED:
            return True if func is not ASKED[0] else (args[0].dtype == torch.bool or 1.0 if args[0].is_floating_point() else 1)
        before = {place(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        out = func(*args, **kwargs)
        made = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        if func._schema.is_mutable or any(place(t) not in before for t in made):
            self.calls[func, freeze(args), freeze(kwargs), bool(self.fusing)] += 1
        for t in made:
            self.hold(t)
        return out

    def hold(self, t: Tensor) -> None:
        """Count a storage until it is let go."""
        storage = t.untyped_storage()
        if (key := storage._cdata) not in self.alive:
            size, self.made = storage.nbytes(), self.made + 1
            self.alive[key] = weakref.ref(storage, partial(self.let_go, key, size, self.made))
            if size:
                self.events.append((self.made, size))
            self.now += size
            self.peak = max(self.peak, self.now)

    def let_go(self, key: int, size: int, number: int, _: Any) -> None:
        del self.alive[key]
        self.events.append((number, 0))
        self.now -= size

    @contextmanager
    def apart(self) -> Iterator[Peak]:
        """The peak and the operations of a part, by themselves."""
        part, peak, calls, events = Peak(self.now), self.peak, self.calls, len(self.events)
        self.peak, self.calls = self.now, Counter()
        try:
            yield part
        finally:
            part.after, part.peak, part.calls, part.events = self.now, self.peak, self.calls, self.events[events:]
            self.peak, self.calls = max(peak, self.peak), calls + self.calls


class Peak:
    """Bytes alive before, after and at most within a part, its operations, and what it took and gave back."""

    def __init__(self, before: int) -> None:
        self.before, self.after, self.peak, self.calls, self.events = before, before, before, Counter(), []


@contextmanager
def tracing() -> Iterator[Trace]:
    """Within, tensors are made of shapes alone and counted."""
    with FakeTensorMode(allow_non_fake_inputs=True), Trace() as trace:
        yield trace


def place(t: Tensor) -> int:
    """The storage of a tensor, as a number that is its own while it lives."""
    return t.untyped_storage()._cdata


def spec(t: Tensor) -> Spec:
    """What the time of an operation depends on."""
    return "t", t.dtype, tuple(t.shape), tuple(t.stride())


def freeze(given: Any) -> Any:
    """Arguments as something that can be compared and hashed."""
    given = tree_map_only(Tensor, spec, given)
    return frozen(given)


def frozen(one: Any) -> Any:
    if isinstance(one, torch.Generator):
        return None  # another object in every process, and of no weight
    if isinstance(one, dict):
        return tuple(sorted((name, frozen(value)) for name, value in one.items()))
    return tuple(map(frozen, one)) if isinstance(one, list | tuple) else one
