"""The whole distribution against torch's own divergence, the likeliest tokens below it, and a teacher of other tokens."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from bloomery.core.errors import BadInput
from bloomery.methods.loss.distill import Distill, apart, likeliest
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Batch, Rng

RNG = Rng((0, "distill"))
SMALL, BIG = Config(40, 16, 1, 4, 2, 24, 16), Config(40, 32, 2, 4, 2, 48, 16)


def batch() -> Batch:
    g = torch.Generator().manual_seed(0)
    inputs, targets = (torch.randint(0, 40, (3, 10), generator=g) for _ in range(2))
    documents = torch.where(torch.arange(10) >= torch.tensor([10, 9, 7])[:, None], -1, torch.zeros(3, 10, dtype=torch.int64))
    weights = (documents >= 0) * torch.rand(3, 10, generator=g)
    return Batch(inputs, targets, weights, torch.arange(10).expand(3, 10), documents)


def models() -> dict[str, Transformer]:
    roles = {"net": Transformer(SMALL, RNG), "teacher": Transformer(BIG, RNG.child("teacher"))}
    with torch.no_grad():
        for net in roles.values():
            for p in net.parameters():
                p.mul_(8.0) if p.dim() > 1 else None
    return roles


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("chunk", [4, 512])
def test_the_whole_distribution_is_torchs_divergence_and_gradient(temperature, chunk):
    b, roles = batch(), models()
    found = Distill(0, temperature, chunk=chunk).terms(roles, b, {}, RNG)["teacher"]
    found.backward()
    ours = [p.grad.clone() for p in roles["net"].parameters()]
    assert all(p.grad is None for p in roles["teacher"].parameters())
    roles["net"].zero_grad()
    own, wanted = (F.log_softmax(net.logits(net(b.inputs, b.positions, b.documents)) / temperature, -1) for net in roles.values())
    each = F.kl_div(own, wanted.detach(), reduction="none", log_target=True).sum(-1) * temperature**2
    exact = (each * b.weights).sum()
    exact.backward()
    assert found.item() == pytest.approx(exact.item(), rel=1e-4)
    for mine, p in zip(ours, roles["net"].parameters(), strict=True):
        assert torch.allclose(mine, p.grad, rtol=1e-3, atol=1e-5 * float(p.grad.abs().max()))
    assert Distill().weigh(b) == {"teacher": pytest.approx(float(b.weights.sum()))}


def test_fewer_tokens_are_a_coarser_and_so_a_smaller_divergence():
    b, roles = batch(), models()
    nats = [Distill(top).terms(roles, b, {}, RNG)["teacher"].item() for top in (1, 4, 16, 39, 0)]
    assert all(a <= b + 1e-4 for a, b in pairwise(nats)) and 0 < nats[0] < nats[-1]
    assert nats[3] == pytest.approx(nats[4], rel=1e-4), "the one token left is known from the others"
    same = {"net": roles["net"], "teacher": roles["net"]}
    assert abs(Distill(4).terms(same, b, {}, RNG)["teacher"].item()) < 1e-4


def test_the_likeliest_tokens_and_the_rest_are_one_distribution():
    log, places = likeliest(torch.tensor([[0.0, 3.0, 1.0, 2.0]]), 2, 1.0)
    assert places.tolist() == [[1, 3]] and torch.allclose(log.exp(), torch.tensor([[3.0, 2.0]]).exp() / torch.arange(4.0).exp().sum())
    p, q = torch.tensor([[0.5, 0.2]]), torch.tensor([[0.1, 0.1]])
    wanted = 0.5 * torch.log(torch.tensor(5.0)) + 0.2 * torch.log(torch.tensor(2.0)) + 0.3 * torch.log(torch.tensor(0.3 / 0.8))
    assert float(apart(p.log(), q.log(), whole=False)) == pytest.approx(float(wanted), rel=1e-5)


def test_the_ordinary_loss_beside_it_and_a_teacher_of_other_tokens():
    b, roles = batch(), models()
    found = Distill(ordinary=0.5).terms(roles, b, {}, RNG)
    logits = roles["net"].logits(roles["net"](b.inputs, b.positions, b.documents))
    nats = F.cross_entropy(logits.flatten(0, 1), b.targets.flatten(), reduction="none") * b.weights.flatten()
    assert found["tokens"].item() == pytest.approx(0.5 * nats.sum().item(), rel=1e-5) and set(Distill(ordinary=0.5).weigh(b)) == set(found)
    with pytest.raises(BadInput, match="the teacher has 44 tokens and the model 40"):
        Distill().terms({"net": roles["net"], "teacher": Transformer(replace(BIG, vocab=44), RNG)}, b, {}, RNG)
    for knobs in ({"top": -1}, {"temperature": 0.0}, {"chunk": 0}):
        with pytest.raises(ValueError, match="must not be negative"):
            Distill(**knobs)
