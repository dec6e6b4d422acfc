"""Training within compression: the smaller linears of a block against what the source's block gives, and the loss of the whole at the end.

Two streams of activations go through the model: those of the source, whose outputs are wanted, and those of the smaller model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from bloomery.core.errors import BadInput
from bloomery.nn.context import Context
from bloomery.nn.model import Transformer
from bloomery.rewrite.passing import State
from bloomery.rewrite.survey import TOGETHER, padded, predicted, said, watched
from bloomery.rewrite.walk import MEASURED, Layer, apart, measured
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
        again = Again(self.block, self.whole, len(self.states))
        with torch.no_grad():
            for one, x_BTD in zip(self.states, self.given, strict=True):
                with again.looking(one.counts):
                    one.x_BTD = self.block(x_BTD.float(), self.context(one, slice(None))).to(x_BTD.dtype)
        again.measure(layers, prefix)

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


class Again:
    """Measures the errors of linears that were changed after they had been solved, on the inputs that they then get."""

    def __init__(self, module: nn.Module, whole: Mapping[str, nn.Linear], passes: int) -> None:
        """`whole` are the source's linears under their names in `module`, and `passes` are to be looked at."""
        self.module, self.whole, self.passes = module, whole, passes
        self.seen: dict[str, list[Tensor]] = {name: [] for name in whole}

    @contextmanager
    def looking(self, kept: Tensor | None) -> Iterator[None]:
        """Within it one pass is made, of which the rows `kept` are no padding."""

        def look(name: str, unit: nn.Module, given: tuple[Tensor, ...], y: Tensor) -> None:
            x = counted(given[0], kept) if given[0].dim() > 2 else given[0]
            self.seen[name].append(x[:: max(1, len(x) * self.passes // MEASURED)].clone())

        with watched(self.module, list(self.whole), look):
            yield

    @torch.no_grad()
    def measure(self, layers: list[Layer], prefix: str = "") -> None:
        """Puts the new errors in the place of the old ones; of a linear that no row reached only that of its weight is new."""
        for at, layer in enumerate(layers):
            name = layer.name.removeprefix(prefix)
            if name not in self.whole or not layer.name.startswith(prefix):
                continue
            old, small, rows = self.whole[name], self.module.get_submodule(name), [x for x in self.seen[name] if len(x)]
            if rows:
                layers[at] = replace(measured(layer.name, old, small, torch.cat(rows), layer.rows), rows=layer.rows)
            else:
                layers[at] = replace(layer, weight_error=apart(small.weight, old.weight))


def counted(t_BTD: Tensor, kept: Tensor | None) -> Tensor:
    """Rows (N, D) that are no padding."""
    return t_BTD.flatten(0, 1) if kept is None else t_BTD[kept]


def ended(
    net: Transformer, method: Compress, whole: Mapping[str, nn.Linear], layers: list[Layer], sequences: Sequence[Sequence[int]]
) -> None:  # fmt: skip
    """Lets a method train what it left in a whole model by the model's own loss, and measures in `layers` what became of the linears,
    which are the source's in `whole`; BadInput for a model that is not causal."""
    if not net.cfg.causal:
        raise BadInput(f"{type(method).__name__} trains by the loss of a causal model at the end, and this one sees a text both ways")

    def nats(tokens: int) -> list[Callable[[], Tensor]]:
        return [partial(mean, net, *batch) for batch in padded(net, sequences, tokens)]

    with torch.enable_grad(), frozen(net):
        method.finish(net, list(whole), nats)
    batches = list(padded(net, sequences, TOGETHER))
    again = Again(net, whole, len(batches))
    with torch.no_grad():
        for tokens_BT, counts_BT in batches:
            with again.looking(None if bool(counts_BT.all()) else counts_BT.to(tokens_BT.device)):
                said(net, tokens_BT, counts_BT, score=False)
    again.measure(layers)


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
