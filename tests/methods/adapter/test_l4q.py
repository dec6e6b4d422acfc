"""The product is learnt through rounding: against autograd of the formula, to codes that compute the same."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import nn
from torch.nn import functional as F

from bloomery.methods.adapter.l4q import L4Q
from bloomery.methods.compress.rtn import RTN
from bloomery.nn.packed import Quantized
from bloomery.num.steps import on_grid
from bloomery.seams import Rng, Site

SITE, PARTS = Site("linear", "blocks.0.mixer.qkv", 0, 1), [("q", 12), ("k", 4), ("v", 4)]


def linear(inputs: int = 48) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(inputs, 20)


def moved(method: L4Q, seed: int = 0, inputs: int = 48) -> nn.Module:
    unit = method.wrap(linear(inputs), SITE, PARTS, None, Rng((seed,)))
    torch.manual_seed(seed)
    for p in (*unit.b.values(), unit.scale, *([] if unit.shift is None else [unit.shift])):
        p.data.add_(0.02 * torch.randn_like(p))
    return unit.train()


@pytest.mark.parametrize("symmetric", [True, False])
def test_outputs_and_gradients_are_those_of_the_formula(symmetric):
    unit, x, base = moved(L4Q(3, 16, symmetric, 2, 8.0)), torch.randn(7, 48), linear()
    own = {name: p.detach().clone().requires_grad_() for name, p in unit.named_parameters() if p.requires_grad}
    product = torch.cat([own[f"b.{name}"] @ own[f"a.{name}"] for name, _ in PARTS])
    shift = None if symmetric else own["shift"].view(20, 3)
    w = on_grid(base.weight.detach() + 4.0 * product, own["scale"].view(20, 3), 16, -4, 3, shift_OG=shift)[0]
    wanted = F.linear(x, w, base.bias.detach())
    found = unit(x)
    assert torch.allclose(found, wanted, atol=1e-6)
    found.square().sum().backward()
    wanted.square().sum().backward()
    for name, p in unit.named_parameters():
        if p.requires_grad:
            assert torch.allclose(p.grad, own[name].grad, rtol=1e-3, atol=1e-3), name
            assert bool(p.grad.any())
    assert unit.base.weight.grad is None


@settings(max_examples=20, deadline=None)
@given(some.integers(2, 8), some.sampled_from([16, 20, -1]), some.booleans(), some.integers(0, 100))
def test_the_codes_that_are_left_compute_the_same_to_the_bit(bits, group, symmetric, seed):
    method = L4Q(bits, group, symmetric, 2)
    unit, x = moved(method, seed, 40).eval(), torch.randn(5, 40)
    small = method.merge(unit)
    assert isinstance(small, Quantized) and small.packed.uniform == symmetric
    assert small(x).equal(unit(x)) and small.weight.equal(small.packed.dense())


def test_it_begins_near_rounding_alone():
    base = linear()
    small = L4Q(4, 16).merge(L4Q(4, 16).wrap(base, SITE, PARTS, None, Rng((0,))))
    plain = RTN(4, 16).solve(base, {}, {}, None, None)
    errors = [float((one.weight - base.weight).norm() / base.weight.norm()) for one in (small, plain)]
    assert errors[0] < 1.2 * errors[1]


def test_nonsense_is_refused():
    for knobs in ({"rank": 0}, {"alpha": 0.0}, {"bits": 1}, {"group": 0}):
        with pytest.raises(ValueError, match="must be"):
            L4Q(**knobs)
    assert L4Q().merge(nn.Linear(2, 2)) is None
    assert L4Q().wrap(nn.LayerNorm(4), Site("norm", "norm", -1, 1), (), None, Rng((0,))) is None
