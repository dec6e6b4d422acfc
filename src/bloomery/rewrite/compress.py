"""Makes the linears of a model smaller, one after the other in the order of the forward pass.

Every linear is given the inputs that the already smaller model before it computes. A gate stands in the place of each linear: it
collects the inputs, stops the pass there, and once all batches have come by it puts the smaller linear in. A block whose
calibration goes through in one batch needs one pass, since nothing is left to wait for; with more batches it needs one pass for
each linear, up to that linear, and one more for its outputs. Held at a time: the model, one set of activations between blocks,
and what a block computes for one batch. A method that divides a budget over all linears, or asks for gradients, has looked at the
whole model before (rewrite/survey.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bloomery.core.errors import BadInput
from bloomery.core.log import Log
from bloomery.nn.model import Transformer
from bloomery.nn.packed import Quantized
from bloomery.nn.sites import sites
from bloomery.nn.stacked import Stacked
from bloomery.rewrite.survey import measuring, padded, survey
from bloomery.seams import Compress

WORKING = 2 << 30  # bytes that a block may take for one batch, about
MEASURED = 4096  # rows of a layer's inputs on which its error is measured
KEPT = {"embed": "the embedding is looked up, not multiplied", "head": "the head writes the logits", "norm": "a vector"}


@dataclass(frozen=True)
class Layer:
    """What became of one linear."""

    name: str
    bits: float | None  # of a weight on disk, scales of codes aside; None where the method makes neither codes nor stacks
    group: int | None  # None where there are no codes
    error: float | None  # norm of the change of its outputs over the norm of its outputs, bias aside, on calibration inputs
    weight_error: float | None  # the same of its weight


@dataclass
class Outcome:
    """What was made smaller, and why the rest was not."""

    layers: list[Layer] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """One pass: what to call, and which of its rows count (None: all)."""

    run: Callable[[], Any]
    counts: Tensor | None = None


class Stop(Exception):
    """The rest of this pass is not needed."""


class Gate(nn.Module):
    """Stands for a linear while inputs are collected."""

    def __init__(self, unit: nn.Module, name: str, visit: Callable[[Gate, Tensor], None]) -> None:
        super().__init__()
        self.unit, self.name, self.visit = unit, name, visit

    def forward(self, x: Tensor) -> Tensor:
        self.visit(self, x)
        return self.unit(x)


class Walk:
    """Linears of one module, met in the order of its forward pass."""

    def __init__(
        self, method: Compress, batches: Sequence[Batch], done: Callable[[Layer], None], knobs: Mapping[str, dict[str, Any]] = {},
        known: Mapping[str, dict[str, Any]] = {},
    ) -> None:  # fmt: skip
        """`knobs` of each linear, and statistics that are `known` already, by name."""
        self.method, self.batches, self.done, self.knobs, self.known = method, batches, done, knobs, known
        self.waiting: set[str] = set()
        self.now = 0  # the batch on its way
        self.target: Gate | None = None
        self.acc: dict[str, Any] = {}
        self.rows: list[Tensor] = []

    @torch.no_grad()
    def through(self, module: nn.Module, names: Sequence[str], prefix: str = "") -> list[Any]:
        """Replaces the named linears in `module`; returns what each batch's `run` returned with all of them in place."""
        gates = {name: Gate(module.get_submodule(name), prefix + name, self.visit) for name in names}
        self.waiting = {gate.name for gate in gates.values()}
        for name, gate in gates.items():
            module.set_submodule(name, gate)
        try:
            made: list[Any] = []
            while len(made) < len(self.batches):
                before, made = len(self.waiting), []
                for number, batch in enumerate(self.batches):
                    self.now = number
                    try:
                        made.append(batch.run())
                    except Stop:
                        continue
                self.target = None
                if len(made) < len(self.batches) and len(self.waiting) == before:
                    raise ValueError("a pass stopped and solved nothing")
            return made
        finally:
            for name, gate in gates.items():
                module.set_submodule(name, gate.unit)

    def visit(self, gate: Gate, x: Tensor) -> None:
        """Called with the inputs of a linear on their way: collect, and go on, stop, or solve and go on."""
        if gate.name not in self.waiting:
            return
        several = len(self.batches) > 1
        if self.target is None:
            self.target, self.acc, self.rows = gate, {}, []
        if self.target is not gate:
            raise Stop
        counts = self.batches[self.now].counts
        x = x.reshape(-1, x.shape[-1]) if counts is None else x[counts]
        if gate.name not in self.known:
            y = gate.unit(x) if "y" in self.method.reads else None
            self.method.collect(self.acc, x if "x" in self.method.reads else None, y, None)
        self.rows.append(x[:: max(1, len(x) * len(self.batches) // MEASURED)].clone())
        if self.now < len(self.batches) - 1:
            raise Stop
        acc = self.known.get(gate.name, self.acc)
        unit = self.method.solve(gate.unit, acc, dict(self.knobs.get(gate.name, {})), None, None)
        self.done(measured(gate.name, gate.unit, unit, torch.cat(self.rows)))
        gate.unit = unit
        self.waiting.remove(gate.name)
        self.acc, self.rows = {}, []
        if not several:
            self.target = None  # the next linear can go on at once: this batch is all there is


def measured(name: str, unit: nn.Module, small: nn.Module, x: Tensor) -> Layer:
    """The errors of a smaller unit on inputs `x` (rows, I)."""
    bias = getattr(unit, "bias", None)
    y = unit(x)
    error = relative(small(x) - y, y if bias is None else y - bias)
    old, new = getattr(unit, "weight", None), getattr(small, "weight", None)
    weight_error = None if old is None or new is None or old.shape != new.shape else relative(new - old, old)
    stored = small.packed if isinstance(small, Quantized) else None
    group = None if stored is None or isinstance(stored, Stacked) else stored.group
    return Layer(name, None if stored is None else stored.bits, group, error, weight_error)


def relative(change: Tensor, of: Tensor) -> float:
    """Norm over norm; 0 where nothing was there and nothing changed."""
    return float(change.float().norm() / of.float().norm().clamp(min=torch.finfo(torch.float32).tiny))


# ---- whole models -------------------------------------------------------------------------------------------------------


def compress(
    net: Transformer,
    method: Compress,
    sequences: Sequence[Sequence[int]],
    skip: Sequence[str] = (),
    rest: torch.dtype | None = None,
    log: Log | None = None,
    budget: float = math.inf,
) -> Outcome:
    """Replaces the linears of `net`, block by block, calibrated on token sequences no longer than its context.

    `skip` holds patterns of names, such as `blocks.0.*` or `*.down`; BadInput for one that names no linear. Matrices that are left as
    they are get numbers that `rest` holds, before anything is calibrated. `budget` is what the linears may take, in bytes; BadInput
    where the method divides none.
    """
    if math.isfinite(budget) and not hasattr(method, "allocate"):
        raise BadInput(f"{type(method).__name__} divides no budget over linears; leave the budget out, or choose bitstack")
    found, outcome = sites(net), Outcome()
    linears = {site.name: site.layer for site, _ in found if site.kind == "linear"}
    outcome.skipped |= {site.name: KEPT[site.kind] for site, _ in found if site.kind in KEPT}
    if net.cfg.tied:
        outcome.skipped["head"] = "its weight is the embedding"
    chosen, left = choose(list(linears), skip)
    outcome.skipped |= left
    if not chosen:
        raise BadInput(f"skip leaves no linear to compress of {len(linears)}; name fewer")
    if experts := next((name for name in chosen if ".experts." in name), None):
        raise BadInput(f"{experts} sees a part of the tokens only, and calibration follows all: name '*.experts.*' under skip")
    for site, unit in found:
        if site.name in chosen and type(unit) is not nn.Linear:
            raise BadInput(f"{site.name} is a {type(unit).__name__} and no plain linear; merge adapters into the model first")
    if rest is not None:
        narrow(net, rest, chosen)
    log = log or Log(quiet=True)
    known, knobs = surveyed(net, method, sequences, chosen, budget, log)
    with log.progress("compressing", total=len(chosen), unit="layers") as bar:

        def done(layer: Layer) -> None:
            outcome.layers.append(layer)
            bar.advance(1, note=f"{layer.name} error {layer.error:.2%}")

        states = list(entering(net, sequences))
        for number, block in enumerate(net.blocks):
            at = f"blocks.{number}."
            names = [name.removeprefix(at) for name in chosen if linears[name] == number]
            batches = [Batch(partial(block, one.x_BTD, *one.shared), one.counts) for one in states]
            walk = Walk(method, batches, done, knobs, known)
            for one, x in zip(states, walk.through(block, names, at), strict=True):
                one.x_BTD = x
    return outcome


def surveyed(
    net: Transformer, method: Compress, sequences: Sequence[Sequence[int]], chosen: Sequence[str], budget: float, log: Log
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Statistics that hold to the end because they need gradients, and the knobs that a method allots to each linear."""
    allots = hasattr(method, "allocate")
    if not allots and "g" not in method.reads:
        return {}, {}
    log.say(f"{type(method).__name__} looks at the whole model first")
    stats = survey(net, method, sequences, chosen)
    units = {name: net.get_submodule(name) for name in chosen}
    knobs = method.allocate(stats, units, budget, measuring(net, sequences)) if allots else {}
    if strange := sorted(knobs.keys() - units.keys()):
        raise ValueError(f"{type(method).__name__} allots to {strange[0]}, which is none of the linears it was given")
    return stats if "g" in method.reads else {}, knobs


def compress_linears(
    module: nn.Module, method: Compress, runs: Sequence[Callable[[], Any]], skip: Sequence[str] = (), log: Log | None = None
) -> Outcome:
    """Replaces the nn.Linears of any module. Each of `runs` calls it on one batch of calibration data; several are called many times.

    BadInput for a method that needs a loss, which no module of its own has.
    """
    if "g" in method.reads or hasattr(method, "allocate"):
        raise BadInput(f"{type(method).__name__} needs gradients or a loss to measure, which only `compress` of a model offers")
    outcome = Outcome()
    names = [name for name, unit in module.named_modules() if type(unit) is nn.Linear and name]
    chosen, outcome.skipped = choose(names, skip)
    walk = Walk(method, [Batch(run) for run in runs], outcome.layers.append)
    walk.through(module, chosen)
    outcome.skipped |= dict.fromkeys(walk.waiting, "no calibration input reached it")
    (log or Log(quiet=True)).event("compressed", layers=len(outcome.layers), skipped=len(outcome.skipped))
    return outcome


@torch.no_grad()
def narrow(net: Transformer, dtype: torch.dtype, but: Sequence[str]) -> None:
    """Rounds all matrices of a model to what `dtype` holds, except those of the linears named; their type stays."""
    for name, p in net.named_parameters():
        if p.dim() > 1 and name.removesuffix(".weight") not in but:
            rounded = p.to(dtype)
            if not bool(rounded.isfinite().all()):
                raise BadInput(f"{name} holds numbers too large for {dtype}; store the rest in another type")
            p.copy_(rounded)


def choose(names: Sequence[str], skip: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Names to compress, and those that a pattern takes out with the pattern."""
    for pattern in skip:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise BadInput(f"skip: {pattern!r} names no linear; they are called {', '.join(names[:4])} and so on")
    left = {name: f"skip: {pattern}" for pattern in skip for name in names if fnmatchcase(name, pattern)}
    return [name for name in names if name not in left], left


@dataclass
class State:
    """Calibration activations of one batch between two blocks, with what every block gets beside them."""

    x_BTD: Tensor
    shared: tuple[Any, ...]
    counts: Tensor | None  # (B, T) bool: what is no padding


def entering(net: Transformer, sequences: Sequence[Sequence[int]]) -> Iterator[State]:
    """What enters the first block, in batches of sequences of like length, padded at the end where attention never looks back from."""
    widest = max([net.cfg.width, *(max(unit.weight.shape) for site, unit in sites(net) if site.kind == "linear")])
    tokens = max(1, WORKING // (4 * (3 * widest + 4 * net.cfg.width)))
    for tokens_BT, counts in padded(net, sequences, tokens):
        with caught(net.blocks[0]) as held, torch.no_grad():
            net(tokens_BT)
        yield State(held[0], tuple(held[1:]), None if bool(counts.all()) else counts.to(held[0].device))


@contextmanager
def caught(block: nn.Module) -> Iterator[list[Any]]:
    """The arguments with which a model calls `block`; the pass ends there."""
    held: list[Any] = []

    def catch(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        held.extend(arguments)
        raise Stop

    handle = block.register_forward_pre_hook(catch)
    try:
        yield held
    except Stop:
        pass
    finally:
        handle.remove()
