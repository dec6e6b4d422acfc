"""Makes the linears of one module smaller, in the order of its forward pass, each with the inputs that the smaller ones before it bring.

A gate stands in the place of each linear: it collects the inputs, and once all batches have come by it puts the smaller linear in. One
batch needs one pass, since nothing is left to wait for, and so do several that go abreast (rewrite/abreast.py), all of which are in memory
as far as they have come. Otherwise a pass stops at the gate and is thrown away: one pass for each linear, up to that linear, and one more
for the outputs. The linears that experts have in the same place are one wave: none reads what another writes, so they are collected
together; since not every batch comes by each of them, batches with experts never go abreast.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bloomery.nn.mixture import Mixture
from bloomery.nn.packed import Packed, Quantized
from bloomery.rewrite.abreast import Pass, abreast
from bloomery.seams import Compress

MEASURED = 256  # rows of a layer's inputs on which its error is measured, about
ROWS = 256  # of inputs or of weights on which errors are measured at a time
MOST = 256  # batches that go abreast
KEPT = 4096  # rows of a mixture's inputs that are kept for experts that no token chose
EXPERT = re.compile(r"(.*\.|)experts\.(\d+)\.(.+)")


@dataclass(frozen=True)
class Layer:
    """What became of one linear."""

    name: str
    bits: float | None  # of a weight on disk, scales of codes aside; None where the method makes neither codes nor stacks
    group: int | None  # None where there are no codes
    error: float | None  # norm of the change of its outputs over their norm, bias aside, on calibration inputs; None over a norm of 0
    weight_error: float | None  # the same of its weight
    rows: int = 0  # calibration inputs that reached it


@dataclass(frozen=True)
class Batch:
    """One pass: what to call, and which of its rows count (None: all)."""

    run: Callable[[], Any]
    counts: Tensor | None = None


@dataclass
class Seen:
    """What a gate has seen of this pass over all batches."""

    acc: dict[str, Any] = field(default_factory=dict)
    rows: list[Tensor] = field(default_factory=list)  # a few, for the error
    count: int = 0


class Stop(Exception):
    """The rest of this pass is not needed."""


class Gate(nn.Module):
    """Stands for a linear while inputs are collected. The linear is no part of it, so that a block may change its own type."""

    def __init__(self, unit: nn.Module, name: str, visit: Callable[[Gate, Tensor], None], dtype: torch.dtype | None) -> None:
        super().__init__()
        self.name, self.visit, self.dtype, self.held = name, visit, dtype, [unit, unit]
        self.put(unit)

    @property
    def unit(self) -> nn.Module:
        """The linear."""
        return self.held[0]

    @property
    def weight(self) -> Tensor:
        """For modules that compute with a linear's weight and never call it."""
        return self.held[1].weight

    @property
    def bias(self) -> Tensor | None:
        """As `weight`."""
        return self.held[1].bias

    def put(self, unit: nn.Module) -> None:
        """Another linear in its place, which computes in the gate's type."""
        own = getattr(unit, "weight", None)
        same = self.dtype is None or own is None or own.dtype == self.dtype
        self.held = [unit, unit if same else deepcopy(unit).to(self.dtype)]

    def forward(self, x: Tensor) -> Tensor:
        self.visit(self, x)
        return self.held[1](x)


class Walk:
    """Linears of one module, met in the order of its forward pass."""

    def __init__(
        self, method: Compress, batches: Sequence[Batch], done: Callable[[Layer], None], knobs: Mapping[str, dict[str, Any]] = {},
        known: Mapping[str, dict[str, Any]] = {}, dtype: torch.dtype | None = None, side: bool = False,
    ) -> None:  # fmt: skip
        """`knobs` of each linear, and statistics that are `known` already, by name. Linears compute in `dtype`, where one is given, and
        are solved in their own. `side` says that batches may go abreast."""
        self.method, self.batches, self.done, self.knobs, self.known, self.dtype = method, batches, done, knobs, known, dtype
        self.waiting: set[str] = set()
        self.now = 0  # the batch on its way
        self.side = side
        self.going: Pass | None = None  # where batches go abreast, the one that is on its way
        self.wave = ""  # what is collected in this pass
        self.seen: dict[Gate, Seen] = {}

    @torch.no_grad()
    def through(self, module: nn.Module, names: Sequence[str], prefix: str = "", within: nn.Module | None = None) -> list[Any]:
        """Replaces the named linears in `module`; returns what each batch's `run` returned with all of them in place.

        The gates stand `within` another module of the same names, where that is what the batches run through. Experts that no row of
        any batch chose are calibrated on rows of their whole layer; linears that nothing reached are left and stay in `waiting`.
        """
        within = module if within is None else within
        gates = {name: Gate(module.get_submodule(name), prefix + name, self.visit, self.dtype) for name in names}
        self.waiting = {gate.name for gate in gates.values()}
        with kept(within) as layers, standing(within, gates):
            made = self.passes()
        for name, gate in gates.items():
            module.set_submodule(name, gate.unit)
        for name in [name for name in names if prefix + name in self.waiting and EXPERT.fullmatch(name)]:
            if prefix + name in self.waiting:
                self.starved(module, EXPERT.fullmatch(name), names, prefix, layers)
        return made

    def passes(self) -> list[Any]:
        """Passes over all batches until one of them had nothing left to solve."""
        if self.side and 1 < len(self.batches) <= MOST and not any(map(mixture, self.waiting)):
            return self.abreast()
        while True:
            before, made, self.wave = len(self.waiting), [], ""
            for number, batch in enumerate(self.batches):
                self.now = number
                try:
                    out = batch.run()
                except Stop:
                    continue
                made.append(out)
            for gate in list(self.seen):
                self.solve(gate)
            if not self.wave:
                return made
            if len(self.waiting) == before:
                raise ValueError("a pass stopped and solved nothing")

    def abreast(self) -> list[Any]:
        """One pass of every batch, all of which stop at a linear until it is solved."""
        with abreast([batch.run for batch in self.batches]) as passes:
            while True:
                for number, one in enumerate(passes):
                    if not one.ended:
                        self.now, self.going = number, one
                        one.go()
                self.going = None
                if all(one.ended for one in passes):
                    return [one.out for one in passes]
                gates = {one.at for one in passes if not one.ended}
                if len(gates) > 1:
                    raise ValueError("batches came by different linears; they cannot go abreast")
                self.solve(gates.pop())

    def visit(self, gate: Gate, x: Tensor) -> None:
        """Called with the inputs of a linear on their way: collect, and go on, stop, or solve and go on."""
        if gate.name not in self.waiting:
            return
        if self.going is not None:
            self.collect(gate, x)
            self.going.stop(gate)
            return
        if len(self.batches) == 1:  # the next linear can go on at once: this batch is all there is
            self.collect(gate, x)
            self.solve(gate)
            return
        self.wave = self.wave or wave(gate.name)
        if wave(gate.name) == self.wave:
            self.collect(gate, x)
        if mixture(gate.name) != mixture(self.wave) or not mixture(self.wave):
            raise Stop

    def collect(self, gate: Gate, x: Tensor) -> None:
        """Adds the inputs of one batch to what the gate has seen."""
        seen, counts = self.seen.setdefault(gate, Seen({"name": gate.name})), self.batches[self.now].counts
        x = x.reshape(-1, x.shape[-1]) if counts is None else x[counts]
        if gate.name not in self.known:
            y = gate.held[1](x) if "y" in self.method.reads else None
            self.method.collect(seen.acc, x if "x" in self.method.reads else None, y, None)
        seen.rows.append(x[:: max(1, len(x) * len(self.batches) // MEASURED)].clone())
        seen.count += len(x)

    def solve(self, gate: Gate) -> None:
        """Puts the smaller linear in."""
        seen, unit = self.seen.pop(gate), gate.unit
        acc = self.known.get(gate.name, seen.acc)
        small = self.method.solve(unit, acc, dict(self.knobs.get(gate.name, {})), None, None)
        self.done(measured(gate.name, unit, small, torch.cat(seen.rows), seen.count))
        gate.put(small)
        self.waiting.remove(gate.name)

    def starved(self, module: nn.Module, found: re.Match, names: Sequence[str], prefix: str, layers: Mapping[str, Tensor]) -> None:
        """Solves the linears of an expert to which no token went, on rows that its layer was given."""
        at = f"{found[1]}experts.{found[2]}"
        x = layers.get(found[1].removesuffix("."))
        if x is None:
            return
        expert = module.get_submodule(at)
        x = x.to(next(expert.parameters()).dtype)
        own = [name.removeprefix(f"{at}.") for name in names if name.startswith(f"{at}.")]

        def done(layer: Layer) -> None:
            self.done(Layer(layer.name, layer.bits, layer.group, layer.error, layer.weight_error, rows=0))

        walk = Walk(self.method, [Batch(lambda: expert(x))], done, self.knobs, self.known)
        walk.through(expert, own, f"{prefix}{at}.")
        self.waiting -= {f"{prefix}{at}.{name}" for name in own}


def wave(name: str) -> str:
    """What is collected together with a linear: itself alone, or the same place in all experts of its layer."""
    found = EXPERT.fullmatch(name)
    return f"{found[1]}experts.*.{found[3]}" if found else name


def mixture(name: str) -> str:
    """The layer of experts that a linear or a wave belongs to, "" for none."""
    return name.split("experts.")[0] if "experts." in name else ""


@contextmanager
def standing(module: nn.Module, gates: Mapping[str, Gate]) -> Iterator[None]:
    """The gates in the places of their linears, which stand there again afterwards, smaller or not."""
    for name, gate in gates.items():
        module.set_submodule(name, gate)
    try:
        yield
    finally:
        for name, gate in gates.items():
            module.set_submodule(name, gate.held[1])


@contextmanager
def kept(module: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Rows that every mixture of experts in `module` is given in the latest passes, by its name."""
    found: dict[str, Tensor] = {}

    def keep(name: str, given: tuple[Any, ...]) -> None:
        x = given[0].detach().flatten(0, -2)
        rows = torch.cat([found[name], x]) if name in found else x
        found[name] = rows[:: max(1, -(-len(rows) // KEPT))].clone()

    layers = [(name, unit) for name, unit in module.named_modules() if isinstance(unit, Mixture)]
    handles = [unit.register_forward_pre_hook(lambda _, given, name=name: keep(name, given)) for name, unit in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def measured(name: str, unit: nn.Module, small: nn.Module, x: Tensor, count: int = 0) -> Layer:
    """The errors of a smaller unit on inputs `x` (rows, I), of `count` that it was calibrated on."""
    bias, old, new = getattr(unit, "bias", None), getattr(unit, "weight", None), getattr(small, "weight", None)
    pairs = []
    for rows in x.split(ROWS):
        rows = rows if old is None else rows.to(old.dtype)
        y = unit(rows)
        change, of = small(rows) - y, y if bias is None else y - bias
        pairs.append((change.float().norm(), of.float().norm()))
    error = relative(*map(torch.stack, zip(*pairs, strict=True)))
    weight_error = None if old is None or new is None or old.shape != new.shape else apart(new, old)
    stored = small.packed if isinstance(small, Quantized) else None
    group = stored.group if isinstance(stored, Packed) else None
    return Layer(name, None if stored is None else stored.bits, group, error, weight_error, count or len(x))


def apart(new: Tensor, old: Tensor) -> float | None:
    """The change of a matrix over it, by norms, a few rows at a time."""
    pairs = zip(new.split(ROWS), old.split(ROWS), strict=True)
    parts = torch.stack([torch.stack([(a - b).float().norm(), b.float().norm()]) for a, b in pairs])
    return relative(parts[:, 0], parts[:, 1])


def relative(change: Tensor, of: Tensor) -> float | None:
    """Norm over norm; where nothing was there, 0 if nothing changed, and None, for there is no such number, if something did."""
    moved, there = float(change.float().norm()), float(of.float().norm())
    return moved / there if there else None if moved else 0.0
