"""The loss method against torch's own cross-entropy, whatever the padding."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from bloomery.methods.loss.cross_entropy import CrossEntropy
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Batch, Rng


def batch(weights: torch.Tensor) -> Batch:
    g = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 19, (*weights.shape[:1], weights.shape[1] + 1), generator=g)
    order = torch.arange(weights.shape[1])[None].expand_as(weights)
    return Batch(ids[:, :-1], ids[:, 1:], weights, order, torch.zeros_like(order))


def test_equals_torch_and_counts_weights() -> None:
    net, weights = Transformer(Config(19, 16, 2, 2, 1, 24, 12)), torch.rand(3, 12)
    b = batch(weights)
    terms = CrossEntropy(chunk=5).terms({"net": net}, b, {}, Rng((0,)))
    logits = net.logits(net(b.inputs, b.positions, b.documents)).flatten(0, 1)
    own = (F.cross_entropy(logits, b.targets.flatten(), reduction="none") * weights.flatten()).sum()
    assert terms["tokens"].item() == pytest.approx(own.item(), rel=1e-5)
    assert CrossEntropy().weigh(b)["tokens"] == pytest.approx(weights.sum().item(), rel=1e-6)


def test_what_has_no_weight_has_no_influence() -> None:
    net, weights = Transformer(Config(19, 16, 2, 2, 1, 24, 12)), torch.ones(1, 12)
    weights[:, 6:] = 0
    b = batch(weights)
    first = CrossEntropy().terms({"net": net}, b, {}, Rng((0,)))["tokens"].item()
    b.targets[:, 6:], b.inputs[:, 7:] = 3, 4
    assert CrossEntropy().terms({"net": net}, b, {}, Rng((0,)))["tokens"].item() == pytest.approx(first, rel=1e-6)
    with pytest.raises(ValueError, match="chunk"):
        CrossEntropy(chunk=0)
