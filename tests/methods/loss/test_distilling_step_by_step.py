"""Two means with two denominators, the same however a step is cut into micro-batches."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from bloomery.methods.loss.cross_entropy import CrossEntropy
from bloomery.methods.loss.distilling_step_by_step import DistillingStepByStep
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Batch, Rng
from bloomery.train.shares import shares

RNG = Rng((0, "steps"))


def batch(rows: int = 4) -> Batch:
    g = torch.Generator().manual_seed(0)
    inputs, targets = (torch.randint(0, 40, (rows, 10), generator=g) for _ in range(2))
    weights = torch.tensor([0.0, 0.5, 1.0])[torch.randint(0, 3, (rows, 10), generator=g)]
    return Batch(inputs, targets, weights, torch.arange(10).expand(rows, 10), torch.zeros(rows, 10, dtype=torch.int64))


def part(b: Batch, rows: slice) -> Batch:
    return Batch(*(getattr(b, name)[rows] for name in ("inputs", "targets", "weights", "positions", "documents")))


def total(loss, b: Batch, cuts: list[slice]) -> tuple[float, torch.Tensor]:
    net, micros = Transformer(Config(40, 16, 1, 2, 2, 24, 16), RNG), [part(b, cut) for cut in cuts]
    value = shares(loss, {"net": net}, micros, RNG)
    found = sum(value(net, micro) for micro in micros)
    found.backward()
    return float(found.detach()), net.embed.weight.grad


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_it_is_two_means_in_proportion(share):
    b, net = batch(), Transformer(Config(40, 16, 1, 2, 2, 24, 16), RNG)
    with torch.no_grad():
        nats = F.cross_entropy(net.logits(net(b.inputs, b.positions, b.documents)).flatten(0, 1), b.targets.flatten(), reduction="none")
    answers, whys = (nats[b.weights.flatten() == w].mean() for w in (1.0, 0.5))
    assert total(DistillingStepByStep(share), b, [slice(0, 4)])[0] == pytest.approx(float(share * answers + (1 - share) * whys), rel=1e-4)


def test_accumulation_changes_nothing():
    whole, cut = (total(DistillingStepByStep(0.4), batch(), cuts) for cuts in ([slice(0, 4)], [slice(0, 1), slice(1, 4)]))
    assert whole[0] == pytest.approx(cut[0], rel=1e-5) and torch.allclose(whole[1], cut[1], atol=1e-6)


def test_answers_alone_are_the_ordinary_loss_and_nonsense_is_refused():
    b = batch()
    b.weights = (b.weights == 1).float()
    assert total(DistillingStepByStep(1.0), b, [slice(0, 4)])[0] == pytest.approx(total(CrossEntropy(), b, [slice(0, 4)])[0], rel=1e-5)
    for knobs in ({"share": 1.5}, {"chunk": 0}):
        with pytest.raises(ValueError, match="share must"):
            DistillingStepByStep(**knobs)
