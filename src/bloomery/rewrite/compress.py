"""Makes the linears of a model smaller, block by block in the order of the forward pass (see rewrite/walk.py).

Every linear is given the inputs that the already smaller model before it computes. Held at a time: the activations between two blocks,
what a block computes for one batch, the block, and where passes are made in another type a copy of it in that type. A model that is
read from its folder part by part (nn/parts.py) needs no more room than that; one that is in memory is there besides. A method that
divides a budget over all linears, or asks for gradients, has looked at the whole model before (rewrite/survey.py), which then is here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import nn

from bloomery.core.errors import BadInput
from bloomery.core.log import Log
from bloomery.nn.model import Transformer
from bloomery.nn.modules import named
from bloomery.nn.packed import Quantized
from bloomery.nn.parts import CLOSING, OPENING, Parts, part_of
from bloomery.nn.sites import sites
from bloomery.rewrite.attending import attending
from bloomery.rewrite.passing import State, chains, continued, entering, fits
from bloomery.rewrite.settling import Settling, ended
from bloomery.rewrite.survey import measuring, survey
from bloomery.rewrite.walk import EXPERT, Batch, Layer, Walk
from bloomery.seams import Compress

UNREACHED = "no calibration input reached it"
ALONE = ("allocate", "attend", "settle")  # what an inner method would do by itself, and no method does for it
SAID = {"embed": "the embedding is looked up, not multiplied", "head": "the head writes the logits", "norm": "a vector"}


@dataclass
class Outcome:
    """What was made smaller, and why the rest was not."""

    layers: list[Layer] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    tokens: int = 0  # calibration tokens

    def coverage(self) -> dict[str, list[int | None]]:
        """Of every layer of experts, calibration tokens that each expert was given by the router; None for one that was left out."""
        found: dict[str, dict[int, int | None]] = {}
        for name, rows in {**dict.fromkeys(self.skipped), **{layer.name: layer.rows for layer in self.layers}}.items():
            if place := EXPERT.fullmatch(name):
                each, number = found.setdefault(place[1].removesuffix("."), {}), int(place[2])
                each[number] = each.get(number) if rows is None else rows
        return {name: [each[i] for i in sorted(each)] for name, each in found.items() if set(each.values()) != {None}}


class Here:
    """A model that is in memory as a whole, in the place of `nn.parts.Parts`."""

    def __init__(self, net: Transformer) -> None:
        self.net = net
        self.rounding = {name for name, unit in net.named_modules() if getattr(getattr(unit, "packed", None), "inputs", "")}

    def keep(self, names: Iterable[str]) -> None:
        """They are as they are."""

    def fetch(self, part: str) -> None:
        """It is here."""

    def leave(self, part: str) -> None:
        """It stays."""


def compress(
    net: Transformer | Parts,
    method: Compress,
    sequences: Sequence[Sequence[int]],
    skip: Sequence[str] = (),
    rest: torch.dtype | None = None,
    log: Log | None = None,
    budget: float = math.inf,
    precision: torch.dtype = torch.float32,
) -> Outcome:
    """Replaces the linears of a model, block by block, calibrated on token sequences no longer than its context.

    `skip` holds patterns of names, such as `blocks.0.*` or `*.down`; BadInput for one that names no linear. Matrices that are left as
    they are get numbers that `rest` holds, before anything is calibrated. `budget` is what the linears may take, in bytes; BadInput
    where the method divides none. Calibration passes are made in `precision`; linears are solved in their own type. A model with an
    encoder reads the first half of each sequence there and the second half in its decoder. A method that `ends` with the whole model
    needs it in memory: ValueError for `Parts`. What is left and lies in the folder of `Parts` in few bits stays as it lies there.
    """
    parts = net if isinstance(net, Parts) else Here(net)
    net, log = parts.net, log or Log(quiet=True)
    able(method, budget, isinstance(parts, Here), next(net.parameters()).dtype, precision)
    (outcome, chosen), prepared = planned(parts, sequences, skip), set()
    whole = {name: net.get_submodule(name) for name in chosen} if getattr(method, "ends", False) else {}  # as they were

    def fetch(part: str) -> None:
        parts.fetch(part)
        if rest is not None and part not in prepared:
            narrow(net, rest, chosen, part)
        prepared.add(part)

    fetch(OPENING)
    known, knobs = surveyed(net, method, sequences, chosen, budget, log, fetch)
    with log.progress("compressing", total=len(chosen), unit="layers") as bar:

        def done(layer: Layer) -> None:
            outcome.layers.append(layer)
            bar.advance(1, note=layer.name + ("" if layer.error is None else f" error {layer.error:.2%}"))

        def walk(batches: list[Batch]) -> Walk:
            return Walk(method, batches, done, knobs, known, precision, side)

        states, side = list(entering(net, sequences, precision)), fits(net, sequences)
        sources = list(entering(net, sequences)) if hasattr(method, "settle") else []
        for number, chain in enumerate(chains(net)):
            if number:
                continued(net, states, precision)
                continued(net, sources)
            if number == len(chains(net)) - 1:
                parts.leave(OPENING)
            for name in chain:
                fetch(name)
                own = [one.removeprefix(f"{name}.") for one in chosen if part_of(one) == name]
                if (left := shrunk(net.get_submodule(name), name, own, states, sources, method, outcome, walk)) and rest is not None:
                    narrow(net, rest, set(chosen) - left, name)
                parts.leave(name)
    fetch(CLOSING)
    if whole:
        ended(net, method, {layer.name: whole[layer.name] for layer in outcome.layers}, outcome.layers, sequences)
    parts.leave(CLOSING)
    return outcome


def able(
    method: Compress, budget: float, whole: bool, dtype: torch.dtype = torch.float32, precision: torch.dtype = torch.float32
) -> None:  # fmt: skip
    """BadInput for a budget that the method divides not and an inner method that does more than it would be asked for, ValueError for a
    model that it trains and that is not here as a whole."""
    if verbs := [verb for verb in ALONE if hasattr(getattr(method, "inner", None), verb)]:
        names = type(method).__name__, type(method.inner).__name__
        raise BadInput(
            f"inner: {names[0]} asks {names[1]} to solve linears and nothing more, so its {verbs[0]} would be left out; choose another"
        )
    if math.isfinite(budget) and not hasattr(method, "allocate"):
        raise BadInput(f"{type(method).__name__} divides no budget over linears; leave the budget out, or choose bitstack or cptquant")
    if dtype != torch.float32 and (hasattr(method, "attend") or hasattr(method, "settle")):
        raise BadInput(f"{type(method).__name__} computes with whole blocks in torch.float32, and the model is in {dtype}; load it in that")
    if precision != torch.float32 and hasattr(method, "attend"):
        raise BadInput(f"precision: attention that rounds as {type(method).__name__} finds is computed in float32; leave it out")
    if getattr(method, "ends", False) and not whole:
        raise ValueError(f"{type(method).__name__} trains the whole model at the end, which is to be in memory")


def planned(parts: Parts | Here, sequences: Sequence[Sequence[int]], skip: Sequence[str]) -> tuple[Outcome, list[str]]:
    """The linears to compress, and of all other places why they are left; BadInput for what cannot be compressed, such as linears that
    round their inputs, to grids that were made for their weights."""
    net = parts.net
    if linked := next((method for _, _, method in net.fitted if hasattr(method, "link")), None):
        raise BadInput(f"layers of a model with {named(linked)} hand things on to each other, and a model is compressed block by block")
    found, outcome = sites(net), Outcome(tokens=sum(map(len, sequences)))
    linears = [site.name for site, _ in found if site.kind == "linear"]
    outcome.skipped |= {site.name: SAID[site.kind] for site, _ in found if site.kind in SAID}
    if net.cfg.tied:
        outcome.skipped["head"] = "its weight is the embedding"
    routers = [name for name, _ in net.named_modules() if name.endswith("mlp.router")]
    outcome.skipped |= dict.fromkeys(routers, "the router chooses, and is small")
    chosen, left = choose(linears, skip)
    outcome.skipped |= left
    if not chosen:
        raise BadInput(f"skip leaves no linear to compress of {len(linears)}; name fewer")
    for site, unit in found:
        if site.name not in chosen:
            continue
        if site.name in parts.rounding:
            raise BadInput(f"{site.name} rounds its inputs; compress the model that this one was made from, or leave it out under skip")
        if type(unit) is not nn.Linear:
            mend = "merge adapters into the model first, or export its modules"
            raise BadInput(f"{site.name} is a {type(unit).__name__} and no plain linear; {mend}")
    parts.keep(outcome.skipped)
    return outcome, chosen


def shrunk(
    block: nn.Module, name: str, own: Sequence[str], states: Sequence[State], sources: Sequence[State], method: Compress,
    outcome: Outcome, walk: Callable[[list[Batch]], Walk],
) -> set[str]:  # fmt: skip
    """One block: what its attention rounds, its linears, and what the method trains of them; all states are taken past it. Returns the
    names of linears that no input reached, which are left. BadInput where one to be compressed holds what is no number."""
    for one in own:
        if not bool(block.get_submodule(one).weight.isfinite().all()):
            raise BadInput(f"{name}.{one} holds weights that are no finite numbers: the model is damaged")
    if hasattr(method, "attend") and own and (why := attending(block, states, method)):
        outcome.skipped[f"{name}.mixer"] = why
    settle = Settling(block, own, states, sources) if sources else None
    left = stepped(block, f"{name}.", own, states, walk)
    outcome.skipped |= dict.fromkeys(sorted(left), UNREACHED)
    if settle is not None and own:
        settle.leave(one.removeprefix(f"{name}.") for one in left)
        settle(method, f"{name}.", outcome.layers)
    return left


def stepped(
    block: nn.Module, prefix: str, names: Sequence[str], states: Sequence[State], walk: Callable[[list[Batch]], Walk]
) -> set[str]:  # fmt: skip
    """Makes the linears of one block smaller and takes all states past it; returns the names of those that no input reached."""
    dtype, gates = states[0].x_BTD.dtype, {}
    within = block
    if next(block.parameters()).dtype != dtype:  # the linears themselves are not copied: gates will stand there
        gates = {id(block.get_submodule(name)): nn.Identity() for name in names}
        within = deepcopy(block, dict(gates)).to(dtype)
    batches = [Batch(partial(within, one.x_BTD, one.context(block)), one.counts) for one in states]
    going = walk(batches)
    for one, x in zip(states, going.through(block, names, prefix, within), strict=True):
        one.x_BTD = x
    return going.waiting


def surveyed(
    net: Transformer, method: Compress, sequences: Sequence[Sequence[int]], chosen: Sequence[str], budget: float, log: Log,
    fetch: Callable[[str], None],
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:  # fmt: skip
    """Statistics that hold to the end because they need gradients, and the knobs that a method allots to each linear; nothing where a
    method asks for neither, else all parts are fetched."""
    if "g" not in method.reads and not hasattr(method, "allocate"):
        return {}, {}
    for part in dict.fromkeys([*(block for chain in chains(net) for block in chain), CLOSING]):
        fetch(part)
    log.say(f"{type(method).__name__} looks at the whole model first")
    stats = survey(net, method, sequences, chosen)
    units = {name: net.get_submodule(name) for name in chosen}
    knobs = method.allocate(stats, units, budget, measuring(net, sequences)) if hasattr(method, "allocate") else {}
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
    outcome.skipped |= dict.fromkeys(walk.waiting, UNREACHED)
    (log or Log(quiet=True)).event("compressed", layers=len(outcome.layers), skipped=len(outcome.skipped))
    return outcome


@torch.no_grad()
def narrow(net: Transformer, dtype: torch.dtype, but: Iterable[str], part: str) -> None:
    """Rounds all matrices of a part to what `dtype` holds, except those of the linears named and what is stored in few bits; their type
    stays."""
    for name, p in net.named_parameters():
        if part_of(name) != part or p.dim() < 2 or name.removesuffix(".weight") in but:
            continue
        if not isinstance(net.get_submodule(name.rpartition(".")[0]), Quantized):
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
