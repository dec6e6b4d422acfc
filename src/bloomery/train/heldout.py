"""Bits per byte, or nats per trained token, of held-out text while training: rows of held-out documents, always the same ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bloomery.num.cross_entropy import linear_cross_entropy
from bloomery.seams import Batch, Clock
from bloomery.train.batches import Feed


def token_bytes(tokenizer: Path, vocab: int) -> np.ndarray:
    """UTF-8 bytes that each token stands for, (V,): characters of a byte-level vocabulary are bytes, special tokens are none."""
    from tokenizers import Tokenizer

    known = Tokenizer.from_file(str(tokenizer))
    special = {i for i, token in known.get_added_tokens_decoder().items() if token.special}
    sizes = np.zeros(vocab, np.int64)
    for text, i in known.get_vocab().items():
        if i < vocab and i not in special:
            sizes[i] = len(text)
    return sizes


def sample(feed: Feed, tokens: int) -> list[Batch]:
    """The first `tokens` or so of a fresh feed, in micro-batches of its full size."""
    each = feed.micro * feed.context
    batches: list[Batch] = []
    for step in range(max(1, round(tokens / each))):
        batches += feed.next(Clock(step, step * each, each, None))
    return batches


def bits_per_byte(net: nn.Module, batches: Sequence[Batch], sizes: np.ndarray, compiled: bool = False) -> float:
    """Summed bits of the targets over the bytes that they stand for; ends of documents cost bits and count no bytes.

    `compiled` blocks run with gradients on, because their forward pass for training is at hand and another would have to be
    compiled; nothing is kept of it.
    """
    counted = sum(float((sizes[batch.targets.numpy()] * batch.weights.numpy()).sum()) for batch in batches)
    return _nats(net, batches, compiled) / math.log(2) / max(counted, 1.0)


def nats_per_token(net: nn.Module, batches: Sequence[Batch], compiled: bool = False) -> float:
    """Mean negative log-likelihood of the trained targets, by their weights."""
    return _nats(net, batches, compiled) / max(sum(float(batch.weights.sum()) for batch in batches), 1e-9)


def _nats(net: nn.Module, batches: Sequence[Batch], compiled: bool) -> float:
    """Weighted sum over all targets."""
    nats = 0.0
    dropping = [unit for unit in net.modules() if unit.training and getattr(unit, "dropout", 0)]
    for unit in dropping:
        unit.eval()
    with torch.set_grad_enabled(compiled):
        for batch in batches:
            hidden_BTD = net(batch.inputs, batch.positions, batch.documents).detach()
            hidden_ND = hidden_BTD.reshape(-1, hidden_BTD.shape[-1])
            head_VD = net.head_weight.detach()
            nats += float(linear_cross_entropy(hidden_ND, head_VD, batch.targets.reshape(-1), batch.weights.reshape(-1)))
    for unit in dropping:
        unit.train()
    return nats
