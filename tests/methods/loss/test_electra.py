"""Replaced-token detection: the two sums, exactness under accumulation, and which gradient trains the generator."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from bloomery.core.errors import BadInput
from bloomery.methods.loss.electra import Electra
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Batch, Rng

RNG = Rng((0, "electra"))
CFG = Config(40, 32, 2, 4, 2, 48, 16)


def made(method: Electra) -> dict:
    net = Transformer(CFG, RNG.child("net"))
    return {"net": net, **method.parts(net, RNG.child("parts"))}


def batch(rows: int = 6, tokens: int = 12) -> Batch:
    g = torch.Generator().manual_seed(0)
    targets = torch.randint(3, 40, (rows, tokens), generator=g)
    chosen = torch.rand(rows, tokens, generator=g) < 0.3
    documents = torch.zeros(rows, tokens, dtype=torch.long)
    documents[0, 9:] = -1
    chosen[0, 9:] = False
    order = torch.arange(tokens).expand(rows, tokens)
    return Batch(torch.where(chosen, 0, targets), targets, chosen.float(), order, documents)


def cut(b: Batch, rows: slice) -> Batch:
    return Batch(**{name: column[rows] for name, column in vars(b).items()})


@pytest.mark.parametrize("tied", [True, False])
def test_both_sums_are_those_of_torch(tied: bool) -> None:
    method, b = Electra(size=0.5, tied=tied), batch()
    roles = made(method)
    seen = method.look(roles, b, RNG)
    chosen, real, corrupted = b.weights > 0, b.documents >= 0, seen["corrupted"]
    assert (corrupted[~chosen] == b.targets[~chosen]).all() and (corrupted != b.targets).any()
    terms = method.terms(roles, b, seen, RNG)
    generator, net = roles["generator"], roles["net"]
    if tied:
        logits = generator.logits(generator(net.embed(b.inputs), b.positions, b.documents)) @ net.embed.weight.T
    else:
        logits = generator.logits(generator(b.inputs, b.positions, b.documents))
    named = F.cross_entropy(logits[chosen], b.targets[chosen], reduction="sum")
    told = roles["head"](net(corrupted, b.positions, b.documents)).squeeze(-1)[real]
    binary = F.binary_cross_entropy_with_logits(told, (corrupted != b.targets)[real].float(), reduction="sum")
    assert terms["generator"].item() == pytest.approx(named.item(), rel=1e-5)
    assert terms["discriminator"].item() == pytest.approx(50 * binary.item(), rel=1e-5)
    assert method.weigh(b) == {"generator": float(chosen.sum()), "discriminator": float(real.sum())}
    assert replace(method, over="masked").weigh(b)["discriminator"] == float(chosen.sum())


def test_micro_batches_in_any_cut_give_the_gradient_of_the_whole_step() -> None:
    """The samples are drawn for the whole step, and both denominators are known before."""
    method, b = Electra(), batch()

    def gradient(size: int) -> list[torch.Tensor]:
        roles = made(method)
        seen, weights = method.look(roles, b, RNG), method.weigh(b)
        for at in reversed(range(0, 6, size)):
            terms = method.terms(roles, cut(b, slice(at, at + size)), seen, RNG.child(at))
            sum(term / weights[name] for name, term in terms.items()).backward()
        found = [p.grad for role in ("net", "generator", "head") for p in roles[role].parameters()]
        assert all(grad is not None and grad.any() for grad in found)
        return found

    whole = gradient(6)
    for size in (1, 2, 3):
        for a, w in zip(gradient(size), whole, strict=True):
            assert (a - w).norm() <= 1e-5 * w.norm()


def test_the_generator_learns_from_its_own_loss_alone_and_draws_anew() -> None:
    b, found = batch(), []
    for weight in (0.0, 50.0):
        method = Electra(weight=weight, tied=False)
        roles = made(method)
        sum(method.terms(roles, b, {}, RNG).values()).backward()
        found.append([p.grad.clone() for p in roles["generator"].parameters()])
    assert all(torch.equal(a, w) for a, w in zip(*found, strict=True))
    method = Electra()
    roles = made(method)
    first, again, other = (method.look(roles, b, rng)["corrupted"] for rng in (RNG, RNG, RNG.child(1)))
    assert torch.equal(first, again) and not torch.equal(first, other)
    sizes = [sum(p.numel() for p in roles[role].blocks.parameters()) for role in ("generator", "net")]
    assert sizes[0] < sizes[1] / 4


def test_refuses_targets_at_other_places_and_rows_of_another_step() -> None:
    method, b = Electra(), batch()
    roles = made(method)
    with pytest.raises(BadInput, match="masked"):
        method.look(roles, replace(b, targets=b.targets.roll(1, 1)), RNG)
    with pytest.raises(ValueError, match="not in the step"):
        method.terms(roles, b, method.look(roles, cut(b, slice(0, 3)), RNG), RNG)
    for knobs in ({"size": 0.0}, {"weight": -1.0}):
        with pytest.raises(ValueError):
            Electra(**knobs)
