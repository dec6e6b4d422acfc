"""Figures of held-out text while training: rows of held-out documents, always the same ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bloomery.data.token_bytes import pieces
from bloomery.num.cross_entropy import head_cross_entropy
from bloomery.seams import Batch, Clock, Loss, Rng
from bloomery.train.batches import Feed
from bloomery.train.device import on, where
from bloomery.train.mesh import ALONE, Mesh
from bloomery.train.shares import shares


def token_bytes(tokenizer: Path, vocab: int) -> np.ndarray:
    """UTF-8 bytes that each token stands for, (V,); special tokens are none."""
    from tokenizers import Tokenizer

    sizes = np.zeros(vocab, np.int64)
    found = [len(piece) for piece in pieces(Tokenizer.from_file(str(tokenizer)))][:vocab]
    sizes[: len(found)] = found
    return sizes


def sample(feed: Feed, tokens: int) -> list[Batch]:
    """The first `tokens` or so of a fresh feed, in micro-batches of its full size."""
    each = feed.micro * feed.context
    batches: list[Batch] = []
    for step in range(max(1, round(tokens / each))):
        batches += feed.next(Clock(step, step * each, each, None))
    return batches


def by_domain(feed: Feed, tokens: int) -> dict[str, list[Batch]]:
    """About `tokens` in all, an equal part from each domain of a fresh feed; none where its documents are of one kind."""
    pool = feed.pool
    found = {}
    for number, name in enumerate(pool.domains) if len(pool.domains) > 1 else ():
        lengths = np.where(pool.domain == number, pool.lengths, 0)
        if lengths.any():
            alone = copy(feed)
            alone.pool = replace(pool, lengths=lengths)
            found[name] = sample(alone, tokens // len(pool.domains))
    return found


def figures(
    net: nn.Module, batches: Sequence[Batch], sizes: np.ndarray, domains: Mapping[str, Sequence[Batch]], compiled: bool = False,
    mesh: Mesh = ALONE,
) -> dict[str, float]:  # fmt: skip
    """What a training run measures: bits per byte and nats per token of all, nats per token of each domain. The ranks of a mesh share
    the work, and all of them ask."""
    nats = nats_per_token(net, batches, compiled, mesh)
    bits = nats * sum(float(batch.weights.sum()) for batch in batches) / math.log(2) / counted(batches, sizes)
    each = {f"heldout_nats/{name}": nats_per_token(net, some, compiled, mesh) for name, some in domains.items()}
    return {"heldout_bpb": bits, "heldout_nats": nats, **each}


def loss_of(loss: Loss, roles: Mapping[str, nn.Module], batches: Sequence[Batch], rng: Rng) -> dict[str, float]:
    """The loss itself on held-out rows, for what is not trained to predict the next token."""
    with measuring(roles["net"]), torch.no_grad():
        batches = [on(batch, where(roles["net"])) for batch in batches]
        share = shares(loss, roles, batches, rng)
        value = sum(float(share(roles["net"], batch)) for batch in batches)
    return {"heldout_loss": value}


def counted(batches: Sequence[Batch], sizes: np.ndarray) -> float:
    """Bytes that the targets stand for, at least 1."""
    return max(sum(float((sizes[batch.targets.numpy()] * batch.weights.numpy()).sum()) for batch in batches), 1.0)


def bits_per_byte(net: nn.Module, batches: Sequence[Batch], sizes: np.ndarray, compiled: bool = False, mesh: Mesh = ALONE) -> float:
    """Summed bits of the targets over the bytes that they stand for; ends of documents cost bits and count no bytes.

    `compiled` blocks run with gradients on, because their forward pass for training is at hand and another would have to be
    compiled; nothing is kept of it.
    """
    return _nats(net, batches, compiled, mesh) / math.log(2) / counted(batches, sizes)


def nats_per_token(net: nn.Module, batches: Sequence[Batch], compiled: bool = False, mesh: Mesh = ALONE) -> float:
    """Mean negative log-likelihood of the trained targets, by their weights."""
    return _nats(net, batches, compiled, mesh) / max(sum(float(batch.weights.sum()) for batch in batches), 1e-9)


@contextmanager
def measuring(net: nn.Module) -> Iterator[None]:
    """Units that act otherwise while training (they have a `dropout`, or are `unsteady`) act as in use; the others are not touched,
    since another mode would have to be compiled."""
    acting = [unit for unit in net.modules() if unit.training and (getattr(unit, "dropout", 0) or getattr(unit, "unsteady", False))]
    for unit in acting:
        unit.eval()
    try:
        yield
    finally:
        for unit in acting:
            unit.train()


def _nats(net: nn.Module, batches: Sequence[Batch], compiled: bool, mesh: Mesh) -> float:
    """Weighted sum over all targets."""
    nats = 0.0
    with measuring(net), torch.set_grad_enabled(compiled):
        for batch in (on(one, where(net)) for one in dealt(batches, *mesh.turn)):
            hidden_BTD = net(batch.inputs, batch.positions, batch.documents).detach()
            if not mesh.ends:
                continue
            hidden_ND = hidden_BTD.reshape(-1, hidden_BTD.shape[-1])
            nats += float(head_cross_entropy(net, hidden_ND, batch.targets.reshape(-1), batch.weights.reshape(-1)).detach())
    return mesh.sums({"nats": nats})["nats"]


def dealt(batches: Sequence[Batch], at: int, of: int) -> list[Batch]:
    """Every `of`-th, as many for each: a pass of a model that lies on several ranks is one of all. What is left over is not weighed."""
    own = list(batches[at::of])
    spare = -(-len(batches) // of) - len(own)
    return own + [replace(batches[0], weights=torch.zeros_like(batches[0].weights)) for _ in range(spare)]
