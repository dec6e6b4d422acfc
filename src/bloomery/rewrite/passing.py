"""Calibration activations on their way through a model, block after block, and what every block gets beside them.

Shapes: B rows, T tokens, S tokens of a source, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bloomery.nn.context import Context
from bloomery.nn.model import Transformer, restart
from bloomery.nn.parts import CLOSING, OPENING, Parts
from bloomery.nn.sites import sites
from bloomery.rewrite.survey import halves, mixed, padded

WORKING = 2 << 30  # bytes that a block may take for one batch, about
BATCH = 4096  # tokens of a batch where all batches together take no more than that: what a block makes of them stays near the processor


@dataclass
class State:
    """Activations of one batch between two blocks."""

    x_BTD: Tensor
    whole: Context
    local: Context  # of blocks that see a window
    counts: Tensor | None  # (B, T) bool: what is no padding; None: all
    tokens_BT: Tensor  # what the decoder of a model with an encoder reads; else what is on its way

    def context(self, block: nn.Module) -> Context:
        """What this block gets."""
        return self.local if getattr(block.mixer, "window", 0) else self.whole


def chains(net: Transformer) -> list[list[str]]:
    """Names of the blocks in the order of the forward pass: those of an encoder, where there is one, and those of the model."""
    chain = [f"blocks.{i}" for i in range(len(net.blocks))]
    return [chain] if net.encoder is None else [[f"encoder.blocks.{i}" for i in range(len(net.encoder.blocks))], chain]


def widest(net: Transformer) -> tuple[int, int]:
    """The most outputs and the most inputs of its linears, and no less than its own width."""
    shapes = [unit.weight.shape for site, unit in sites(net) if site.kind == "linear"]
    outputs, inputs = zip((net.cfg.width, net.cfg.width), *shapes, strict=True)
    return max(outputs), max(inputs)


def room(net: Transformer) -> int:
    """Tokens of which a block may compute at a time, in fp32: batches are the same whatever the passes are made in."""
    return max(1, WORKING // (4 * (3 * max(widest(net)) + 4 * net.cfg.width)))


def fits(net: Transformer, sequences: Sequence[Sequence[int]]) -> bool:
    """Whether there is room for what a block keeps of all sequences where it waits for a linear, so that their batches can go abreast."""
    return sum(map(len, sequences)) * 4 * (sum(widest(net)) + 4 * net.cfg.width) <= WORKING


@torch.no_grad()
def entering(net: Transformer, sequences: Sequence[Sequence[int]], dtype: torch.dtype = torch.float32) -> Iterator[State]:
    """What enters the first block, in batches of sequences of like length, padded at the end where attention never looks back from."""
    most = room(net)
    tokens = min(BATCH, most) if fits(net, sequences) and not mixed(net) else most
    for tokens_BT, counts in padded(net, sequences, tokens):
        given, left = (tokens_BT, tokens_BT) if net.encoder is None else halves(tokens_BT)
        positions = restart(given.shape[1], None, given.device)
        whole = net.prepare(positions, None)
        if net.encoder is not None:
            whole = whole._replace(bias=net.bias(net.encoder, positions))
        counts = None if bool(counts.all()) else counts.to(given.device)
        yield State(net.enter(given, positions).to(dtype), whole, net.local(whole, positions), counts, left)


@torch.no_grad()
def continued(net: Transformer, states: Sequence[State], dtype: torch.dtype = torch.float32) -> None:
    """What leaves the last block of an encoder becomes the source of what enters the decoder."""
    for one in states:
        source_BSD = net.encoder.norm(one.x_BTD.to(next(net.encoder.norm.parameters()).dtype)).to(dtype)
        positions = restart(one.tokens_BT.shape[1], None, one.tokens_BT.device)
        one.whole = net.prepare(positions, None)._replace(source=source_BSD)
        one.local = net.local(one.whole, positions)
        one.x_BTD = net.enter(one.tokens_BT, positions).to(dtype)


@torch.no_grad()
def hidden(parts: Parts, sequences: Sequence[Sequence[int]]) -> list[Tensor]:
    """What the head reads of each sequence, (T, D), with one block of the model in memory at a time; the opening and the closing stay.

    Of a model with an encoder, T are the tokens of the second half.
    """
    parts.fetch(OPENING)
    found: list[Tensor] = []
    states = [state for ids in sequences for state in entering(parts.net, [ids])]
    for number, chain in enumerate(chains(parts.net)):
        if number:
            continued(parts.net, states)
        for name in chain:
            parts.fetch(name)
            block = parts.net.get_submodule(name)
            for one in states:
                one.x_BTD = block(one.x_BTD, one.context(block))
            parts.leave(name)
    parts.fetch(CLOSING)
    for one in states:
        found.append(parts.net.leave(one.x_BTD)[0])
    return found
