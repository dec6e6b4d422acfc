"""Training within compression: the smaller linears of a block against what the source's block gives, and the loss of the whole at the end.

Two streams of activations go through the model: those of the source, whose outputs are wanted, and those of the smaller model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from bloomery.core.errors import BadInput
from bloomery.nn.context import Context
from bloomery.nn.model import Transformer
from bloomery.rewrite.passing import State
from bloomery.rewrite.survey import padded, predicted, said, watched
from bloomery.rewrite.walk import MEASURED, Layer, measured
from bloomery.seams import Compress


class Settling:
    """One block: made before its linears are replaced, called when they are."""

    def __init__(self, block: nn.Module, names: Sequence[str], states: Sequence[State], sources: Sequence[State]) -> None:
        self.block, self.states, self.sources = block, states, sources
        self.whole = {name: block.get_submodule(name) for name in names}
        self.given = [one.x_BTD for one in states]
        with torch.no_grad():
            for one in sources:
                one.x_BTD = block(one.x_BTD, one.context(block))

    def leave(self, names: Iterable[str]) -> None:
        """These were not replaced."""
        for name in names:
            del self.whole[name]

    def __call__(self, method: Compress, prefix: str, layers: list[Layer]) -> None:
        """Trains, takes the states past the block as it then is, and measures its linears in `layers` again."""
        with torch.enable_grad(), frozen(self.block):
            method.settle(self.block, self.whole, self.rows)
        seen: dict[str, list[Tensor]] = {name: [] for name in self.whole}

        def look(name: str, unit: nn.Module, given: tuple[Tensor, ...], y: Tensor) -> None:
            x = given[0].reshape(-1, given[0].shape[-1])
            seen[name].append(x[:: max(1, len(x) * len(self.states) // MEASURED)].clone())

        with torch.no_grad(), watched(self.block, list(seen), look):
            for one, x_BTD in zip(self.states, self.given, strict=True):
                one.x_BTD = self.block(x_BTD.float(), self.context(one, slice(None))).to(x_BTD.dtype)
        for at, layer in enumerate(layers):
            name = layer.name.removeprefix(prefix)
            if name in self.whole and layer.name.startswith(prefix) and seen[name]:
                small = self.block.get_submodule(name)
                with torch.no_grad():
                    again = measured(layer.name, self.whole[name], small, torch.cat(seen[name]), layer.rows)
                layers[at] = replace(again, rows=layer.rows)

    def rows(self, most: int) -> list[tuple[Callable[[], Tensor], Tensor]]:
        """Pieces of at most so many sequences: a function that gives the block's outputs (N, D) as it now is, with gradients, and what the
        source's block gives there; padding is left out."""
        found = []
        for one, x_BTD, wanted in zip(self.states, self.given, self.sources, strict=True):
            for start in range(0, len(x_BTD), most):
                part = slice(start, start + most)
                kept = None if one.counts is None else one.counts[part]
                run = partial(self.run, x_BTD[part], self.context(one, part), kept)
                found.append((run, counted(wanted.x_BTD[part].float(), kept)))
        return found

    def context(self, one: State, part: slice) -> Context:
        """What the block gets of some sequences, in float32 as its weights are."""
        ctx = one.context(self.block)
        return ctx if ctx.source is None else ctx._replace(source=ctx.source[part].float())

    def run(self, x_BTD: Tensor, ctx: Context, kept: Tensor | None) -> Tensor:
        return counted(self.block(x_BTD.float(), ctx), kept)


def counted(t_BTD: Tensor, kept: Tensor | None) -> Tensor:
    """Rows (N, D) that are no padding."""
    return t_BTD.flatten(0, 1) if kept is None else t_BTD[kept]


def ended(net: Transformer, method: Compress, names: Sequence[str], sequences: Sequence[Sequence[int]]) -> None:
    """Lets a method train what it left in a whole model by the model's own loss; BadInput for one that is not causal."""
    if not net.cfg.causal:
        raise BadInput(f"{type(method).__name__} trains by the loss of a causal model at the end, and this one sees a text both ways")

    def nats(tokens: int) -> list[Callable[[], Tensor]]:
        return [partial(mean, net, *batch) for batch in padded(net, sequences, tokens)]

    with torch.enable_grad(), frozen(net):
        method.finish(net, names, nats)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """The parameters that a module now has want no gradient within; what a method puts there may."""
    wanted = [p for p in module.parameters() if p.requires_grad]
    for p in wanted:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in wanted:
            p.requires_grad_(True)


def mean(net: Transformer, tokens_BT: Tensor, counts_BT: Tensor) -> Tensor:
    """Nats per predicted token of one batch, with gradients."""
    return said(net, tokens_BT, counts_BT.to(tokens_BT.device)) / max(1, predicted(net, counts_BT))
