"""Zeros stay zero and everything else moves by a product: against the formula, from where it starts, and through a merge."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import nn
from torch.nn import functional as F

from bloomery.methods.adapter.perp import Perp
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.rewrite.adapters import attach
from bloomery.seams import Rng, Site

SITE, PARTS = Site("linear", "blocks.0.mixer.qkv", 0, 1), [("q", 12), ("k", 4), ("v", 4)]


def pruned(bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    unit = nn.Linear(16, 20, bias=bias)
    unit.weight.data[torch.rand(20, 16) < 0.6] = 0
    return unit


def moved(form: str, seed: int = 0) -> nn.Module:
    unit = Perp(3, form, 6.0).wrap(pruned(), SITE, PARTS, None, Rng((seed,)))
    torch.manual_seed(seed)
    for p in (*unit.a.values(), *unit.b.values()):
        p.data.add_(torch.randn_like(p))
    return unit


def test_it_is_the_formula_with_its_gradients():
    base = pruned()
    for form in ("mask", "scale"):
        unit, x = moved(form), torch.randn(7, 16)
        a, b = ({name: p.detach().clone().requires_grad_() for name, p in held.items()} for held in (unit.a, unit.b))
        product = torch.cat([b[name] @ a[name] for name, _ in PARTS])
        w = base.weight.detach()
        wanted = F.linear(x, w + 2.0 * product * (w != 0) if form == "mask" else w * product, base.bias)
        assert torch.allclose(unit(x), wanted, atol=1e-5)
        unit(x).square().sum().backward()
        wanted.square().sum().backward()
        for name, _ in PARTS:
            assert torch.allclose(unit.a[name].grad, a[name].grad, rtol=1e-3, atol=1e-3)
            assert torch.allclose(unit.b[name].grad, b[name].grad, rtol=1e-3, atol=1e-3)
        assert unit.base.weight.grad is None


@pytest.mark.parametrize("form", ["mask", "scale"])
def test_it_begins_as_the_pruned_model(form):
    base, x = pruned(), torch.randn(5, 16)
    before = base(x)
    unit = Perp(3, form).wrap(base, SITE, PARTS, None, Rng((0,)))
    assert torch.allclose(unit(x), before, atol=1e-6) and Perp().merge(unit).weight.equal(base.weight)


@settings(max_examples=20, deadline=None)
@given(some.sampled_from(["mask", "scale"]), some.integers(0, 1000))
def test_no_zero_is_lost_in_a_merge_and_all_else_moves(form, seed):
    unit, zero, x = moved(form, seed), pruned().weight == 0, torch.randn(5, 16)
    plain = Perp().merge(unit)
    assert type(plain) is nn.Linear and bool((plain.weight[zero] == 0).all())
    assert bool((plain.weight[~zero] != pruned().weight[~zero]).all())
    assert torch.allclose(plain(x), unit(x), atol=1e-5)


def test_rank_zero_leaves_the_linears_and_trains_norms_and_biases_alone():
    net = Transformer(Config(64, 32, 2, 4, 2, 48, 16, qkv_bias=True), Rng((3,)))
    assert attach(net, Perp(0), Rng((0,)), also=("norms", "biases")) == []
    trained = {name for name, p in net.named_parameters() if p.requires_grad}
    assert trained == {name for name, p in net.named_parameters() if "norm" in name or name.endswith("qkv.bias")}
    net = Transformer(Config(64, 32, 2, 4, 2, 48, 16, qkv_bias=True), Rng((3,)))
    attach(net, Perp(2), Rng((0,)), also=("biases",))
    assert net.blocks[0].mixer.qkv.base.bias.requires_grad and not net.norm.weight.requires_grad


def test_nonsense_is_refused():
    for knobs in ({"rank": -1}, {"alpha": 0.0}):
        with pytest.raises(ValueError, match="rank must not"):
            Perp(**knobs)
    assert Perp().merge(nn.Linear(2, 2)) is None
    assert Perp().wrap(nn.LayerNorm(4), Site("norm", "norm", -1, 1), (), None, Rng((0,))) is None
