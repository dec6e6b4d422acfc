"""A training step run on tensors without numbers: what it will hold, and which operations it will do. Nothing here is a guess.

The model, the optimizer, the loss and the backward pass are those of the run, and so is the code that drives them; see `tracing`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bloomery.nn.mixture import Mixture
from bloomery.seams import Batch, Rng
from bloomery.train.audit import Audit
from bloomery.train.batches import COLUMNS
from bloomery.train.device import on, where
from bloomery.train.fused import fuse
from bloomery.train.heap import Event, Heap
from bloomery.train.optimizer import Optimizer
from bloomery.train.saved import saving
from bloomery.train.shares import shares
from bloomery.train.tracing import tracing

EXPERT_PRODUCTS = 6  # of an expert: two matrices, each forward and by both operands backward
RATE = 1e-5
SEEN = 4  # steps, after which a heap was not seen to grow
Made = tuple[nn.Module, Mapping[str, nn.Module], Optimizer]


@dataclass(frozen=True)
class Step:
    """What a step was seen to do; all sizes in bytes."""

    making: int  # at most alive while the model and its optimizer are made
    layers: int  # blocks
    frozen: int  # weights that are not trained, further models of the loss included
    frozen_blocks: int  # of them, those of the model's blocks
    weights: int  # trained weights in the format that the passes use, where that is not the master's
    trained_blocks: int  # trained weights of the blocks, in the format that the passes use
    masters: int  # the same in float32, the factors of an init on their rates, and which numbers stay 0
    gradients: int
    states: int  # what the optimizer's methods keep
    audit: int  # the copy of the first weights that the first steps keep
    kept: int  # by autograd for the backward pass of one micro-batch
    passes: int  # at most alive in forward and backward pass, over what is alive between steps
    update: int  # the same, in clipping and in the optimizer's step
    checkpoint: int  # one copy of what a checkpoint holds
    uneven: int  # products of a micro-batch whose shapes depend on where a router sends tokens
    unused: int  # between blocks of the heap, at its highest, in the first steps and the first checkpoint
    micro: Counter  # operations of one micro-batch, see `tracing.Trace.calls`
    rest: Counter  # operations of a step that it does once

    @property
    def standing(self) -> int:
        """Held from the first step to the last."""
        return self.frozen + self.weights + self.masters + self.gradients + self.states


def rehearse(
    make: Callable[[], Made], loss: Any, backward: Any, shape: tuple[int, int, int], saved: Any = None, compiled: bool = False
) -> Step:
    """One step of `shape` (micro-batches, rows of each, tokens of a row); `make` gives model, roles and optimizer of the run.

    Whatever torch raises where code wants a number that shapes do not give passes through.
    """
    with tracing() as trace:
        with trace.apart() as making:
            net, roles, mover = make()
        trained = {id(p) for p in mover.parameters.values()}
        with trace.apart() as audited:
            watched = Audit(net, mover)
        if getattr(backward, "streams", False):
            mover.stream()
        net.train()
        if compiled:
            fuse(net, trace)
        begun = len(trace.events)
        many, watch = min(2, shape[0]), saving(net, saved, roles.values())
        micros = [on(made_up(*shape[1:]), where(net)) for _ in range(many)]
        with trace.apart() as passes, watch:
            value = shares(loss, {"net": net, **roles}, micros, Rng((0, "rehearsal")))
            backward.backward(net, micros, value, Rng((0, "rehearsal")))
        with trace.apart() as update:
            ended(mover, backward, watched.gradients)
        tensors, held = mover.tensors(), len(trace.events)
        parts = trace.events[:begun], trace.events[begun:held]
        return Step(
            unused=unused(*parts, [t.numel() * t.element_size() for t in tensors.values()]),
            uneven=sum(EXPERT_PRODUCTS * len(unit.experts) for unit in net.modules() if isinstance(unit, Mixture)),
            making=making.peak,
            layers=len(net.blocks),
            frozen=size(p for one in (net, *roles.values()) for p in one.parameters() if id(p) not in trained),
            frozen_blocks=size(p for p in net.blocks.parameters() if id(p) not in trained),
            trained_blocks=mover.work.element_size() * sum(p.numel() for p in net.blocks.parameters() if id(p) in trained),
            weights=size([mover.work]) if mover.work is not mover.master else 0,
            masters=size(t for t in (mover.master, mover.factors, mover.zeros) if t is not None),
            gradients=size([mover.grad]),
            states=mover.state_bytes(),
            audit=audited.after - audited.before,
            kept=watch.peak_bytes,
            passes=passes.peak - passes.before,
            update=update.peak - update.before,
            checkpoint=size(tensors.values()),
            micro=Counter({call: n / many for call, n in passes.calls.items()}),
            rest=update.calls,
        )


def ended(mover: Optimizer, backward: Any, look: Callable[[list[torch.Tensor]], None] = lambda grads: None) -> None:
    """What a step does after its passes; `look` is given the gradients first."""
    grads = mover.collect()
    look(grads)
    if hasattr(backward, "transform"):
        backward.transform(grads)
    mover.norm()
    mover.step(RATE, 1)


def unused(begun: list[Event], step: list[Event], copies: list[int]) -> int:
    """Bytes that a heap has reached beyond what was ever alive in it, after a beginning, a checkpoint's copy and some steps."""
    heap = Heap()
    heap.serve(begun)
    copied = [(-1 - i, size) for i, size in enumerate(copies)]
    heap.serve([*copied, *((number, 0) for number, _ in copied)])
    for _ in range(SEEN):
        heap.serve(step)
        heap.serve((number, 0) for number, size in step if size and number in heap.held)
        heap.settle()
    return heap.highest - most_alive(begun, copied, step)


def most_alive(begun: list[Event], copied: list[Event], step: list[Event]) -> int:
    """The most that is alive at once in the same."""
    held: dict[int, int] = {}
    now = most = 0
    for part in (begun, copied, [(number, 0) for number, _ in copied], step):
        for number, size in part:
            now += size - held.get(number, 0)
            held[number] = size
            most = max(most, now)
    return most


def made_up(rows: int, context: int) -> Batch:
    """A micro-batch whose rows are one document each."""
    return Batch(**{name: torch.zeros(rows, context, dtype=getattr(torch, kind.__name__)) for name, (kind, _) in COLUMNS.items()})


def size(tensors: Any) -> int:
    """Bytes of tensors, of which none is counted twice."""
    return sum({id(t): t.numel() * t.element_size() for t in tensors}.values())
