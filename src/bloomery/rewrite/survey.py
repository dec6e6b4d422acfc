"""Looks at a whole model before it is made smaller: statistics of all linears in one pass, and what units in their place would cost.

Shapes: B rows, T tokens, N counted tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bloomery.core.errors import BadInput
from bloomery.nn.mixture import Mixture
from bloomery.nn.model import Transformer
from bloomery.rewrite.walk import EXPERT, kept
from bloomery.seams import Compress

TOGETHER = 2048  # tokens of a pass: their logits are held
MEASURED = 4096  # tokens on which units are compared, about: an allocation may ask hundreds of times


def mixed(net: Transformer) -> bool:
    """Whether tokens are sent to experts, in a model that has them by its shape or by modules."""
    return any(isinstance(unit, Mixture) for unit in net.modules())


def padded(net: Transformer, sequences: Sequence[Sequence[int]], tokens: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of sequences of like length, (B, T) ids padded at the end and which of them count; about `tokens` ids at a time.

    Where padding would be seen, by attention in both directions or by experts, a batch holds sequences of one length.
    """
    alike = not net.cfg.causal or net.cfg.encoder_layers or mixed(net)
    waiting = sorted((torch.as_tensor(ids, dtype=torch.int64) for ids in sequences if len(ids)), key=len, reverse=True)
    if not waiting:
        raise BadInput("there is no sequence to calibrate on; give data that hold text")
    if len(waiting[0]) > net.cfg.context:
        raise BadInput(f"a calibration sequence has {len(waiting[0])} tokens and the context is {net.cfg.context}; cut it")
    while waiting:
        rows = max(1, tokens // len(waiting[0]))
        rows = sum(len(one) == len(waiting[0]) for one in waiting[:rows]) if alike else rows
        batch, waiting = waiting[:rows], waiting[rows:]
        lengths = torch.tensor([len(ids) for ids in batch])
        tokens_BT = nn.utils.rnn.pad_sequence(batch, batch_first=True).to(net.embed.weight.device)
        yield tokens_BT, torch.arange(tokens_BT.shape[1]) < lengths[:, None]


def survey(net: Transformer, method: Compress, sequences: Sequence[Sequence[int]], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What `method` collects of each named linear as the model now is; `g` is the gradient of the nats of each sequence in sum.

    Experts that no token chose are given rows of their whole layer, and gradients of 0.
    """
    if not net.cfg.causal:
        raise BadInput(f"{type(method).__name__} asks for the loss of a causal model, and this one sees a text in both directions")
    stats: dict[str, dict[str, Any]] = {name: {} for name in names}
    backward, reached = "g" in method.reads, set()
    with kept(net) as layers:
        for tokens_BT, counts_BT in padded(net, sequences, TOGETHER):
            counts = counts_BT.to(tokens_BT.device)

            def collect(name: str, unit: nn.Module, given: tuple[Tensor, ...], y: Tensor, counts: Tensor = counts) -> None:
                if not len(y):  # an expert that no token of this batch chose
                    return
                reached.add(name)
                take = partial(taken, method, stats[name], given[0], y, counts=counts)
                if backward:
                    y.register_hook(take)
                else:
                    take(None)

            with watched(net, names, collect), entered(net) if backward else torch.no_grad():
                told = said(net, tokens_BT, counts, backward)
                if backward:
                    told.backward()
    unchosen(net, method, [name for name in names if name not in reached], layers, stats)
    return stats


def taken(method: Compress, acc: dict[str, Any], x: Tensor, y: Tensor, g: Tensor | None, counts: Tensor) -> None:
    """Hands a method what it reads of one batch."""
    method.collect(acc, *(counted(t, counts) if part in method.reads else None for part, t in (("x", x), ("y", y), ("g", g))))


def unchosen(
    net: Transformer, method: Compress, names: Sequence[str], layers: Mapping[str, Tensor], stats: Mapping[str, dict[str, Any]]
) -> None:
    """Collects of the named linears of experts what rows of their layer would bring to them; the loss minds none of their outputs."""

    def collect(name: str, unit: nn.Module, given: tuple[Tensor, ...], y: Tensor) -> None:
        every = torch.ones(y.shape[:-1], dtype=torch.bool, device=y.device)
        taken(method, stats[name], given[0], y, torch.zeros_like(y), every)

    found = [place for place in map(EXPERT.fullmatch, names) if place]
    for layer, number in dict.fromkeys((place[1].removesuffix("."), place[2]) for place in found):
        own = [place[0] for place in found if (place[1].removesuffix("."), place[2]) == (layer, number)]
        with watched(net, own, collect), torch.no_grad():
            net.get_submodule(f"{layer}.experts.{number}")(layers[layer])


@contextmanager
def watched(net: nn.Module, names: Sequence[str], look: Callable[..., None]) -> Iterator[None]:
    """`look(name, unit, inputs, outputs)` is called wherever one of the named modules computes."""
    handles = [net.get_submodule(name).register_forward_hook(partial(look, name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def entered(net: Transformer) -> Iterator[None]:
    """Gradients flow from what enters the first block, and to no parameter."""
    wanted = [p for p in net.parameters() if p.requires_grad]
    handle = net.embed.register_forward_hook(lambda unit, given, out: out.requires_grad_())
    for p in wanted:
        p.requires_grad_(False)
    try:
        with torch.enable_grad():
            yield
    finally:
        handle.remove()
        for p in wanted:
            p.requires_grad_(True)


def counted(t: Tensor, counts_BT: Tensor) -> Tensor:
    """The rows (N, width) of activations that are no padding, without their graph."""
    return (t.reshape(-1, t.shape[-1]) if bool(counts_BT.all()) else t[counts_BT]).detach()


def halves(tokens_BT: Tensor) -> tuple[Tensor, Tensor]:
    """The source and the target that a sequence makes for a model with an encoder; the target is the longer one."""
    return tokens_BT[:, : tokens_BT.shape[1] // 2], tokens_BT[:, tokens_BT.shape[1] // 2 :]


def said(net: Transformer, tokens_BT: Tensor, counts_BT: Tensor, score: bool = True) -> Tensor | None:
    """One pass over tokens: the nats of all that have one before them, in sum, or with `score` off, nothing."""
    if net.encoder is None:
        hidden_BTD = net(tokens_BT)
    else:
        source_BS, tokens_BT = halves(tokens_BT)
        hidden_BTD, counts_BT = net(tokens_BT, source_BT=source_BS), torch.ones_like(tokens_BT, dtype=torch.bool)
    if not score:
        return None
    counted = counts_BT[:, 1:]
    return cross_entropy(net.logits(hidden_BTD[:, :-1][counted]).float(), tokens_BT[:, 1:][counted], reduction="sum")


def predicted(net: Transformer, counts_BT: Tensor) -> int:
    """Tokens of a batch that are predicted."""
    return int((counts_BT if net.encoder is None else halves(counts_BT)[1])[:, 1:].sum())


def measuring(net: Transformer, sequences: Sequence[Sequence[int]]) -> Callable[[Mapping[str, nn.Module]], float]:
    """A function that puts units in the place of those named and gives the model's nats per token, on some of the sequences."""
    chosen, held = [], 0
    for ids in sequences:
        if len(ids) > 1 and held < MEASURED:
            chosen.append(ids)
            held += len(ids)
    batches = list(padded(net, chosen, TOGETHER))

    @torch.no_grad()
    def measure(units: Mapping[str, nn.Module]) -> float:
        before = {name: net.get_submodule(name) for name in units}
        try:
            for name, unit in units.items():
                net.set_submodule(name, unit)
            total = sum(float(said(net, tokens_BT, counts.to(tokens_BT.device))) for tokens_BT, counts in batches)
        finally:
            for name, unit in before.items():
                net.set_submodule(name, unit)
        return total / sum(predicted(net, counts) for _, counts in batches)

    return measure
