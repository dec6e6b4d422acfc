"""N of every M weights are in use, all learn, those out of use are pulled once a step, and what comes out keeps to the pattern."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import nn
from torch.nn import functional as F

from bloomery.methods.compress.magnitude import Magnitude
from bloomery.methods.module.adaptive_sparse import AdaptiveSparse
from bloomery.seams import Clock, Rng, Site

SITE = Site("linear", "blocks.0.mlp.down", 0, 1)


def built(method: AdaptiveSparse = AdaptiveSparse(), inputs: int = 16) -> tuple[nn.Linear, nn.Module]:  # noqa: B008
    torch.manual_seed(0)
    old = nn.Linear(inputs, 6)
    return old, method.build(None, SITE, old, Rng((0,))).train()


def test_it_begins_as_pruning_by_magnitude_and_its_gradient_is_that_of_the_dense_weight():
    old, m = built()
    x, small = torch.randn(9, 16), Magnitude(pattern="2:4").solve(old, {}, {}, None, None)
    assert torch.allclose(m(x), small(x), atol=1e-3)  # stored there as float16
    m(x).square().sum().backward()
    weight = (old.weight * m.mask()).detach().requires_grad_()
    F.linear(x, weight, old.bias).square().sum().backward()
    assert torch.allclose(m.weight.grad, weight.grad, rtol=1e-4, atol=1e-4)


def test_the_pull_comes_once_a_step_and_rises_with_the_clock():
    method = AdaptiveSparse(pull=0.5, rise=0.5)
    _, m = built(method)
    for tokens, share in ((0, 0.0), (25, 0.5), (50, 1.0), (90, 1.0)):
        method.before_step(m, Clock(1, tokens, 10, 100.0), Rng((0,)))
        m.weight.grad = None
        for _ in range(3):  # micro-batches whose own gradient is nothing
            (0.0 * m(torch.ones(2, 16))).sum().backward()
        wanted = 0.5 * share * m.weight.detach().masked_fill(m.mask(), 0)
        assert torch.allclose(m.weight.grad, wanted, atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(some.sampled_from(["1:2", "2:4", "3:8"]), some.integers(5, 40))
def test_what_comes_out_keeps_to_the_pattern_and_computes_the_same(pattern, inputs):
    _, m = built(AdaptiveSparse(pattern), inputs)
    plain, x = AdaptiveSparse(pattern).export(m), torch.randn(3, inputs)
    stay, of = map(int, pattern.split(":"))
    rows = F.pad(plain.weight, (0, -inputs % of)).unflatten(1, (-1, of))
    assert int((rows != 0).sum(-1).max()) <= stay and bool(((rows != 0).sum(-1)[:, : inputs // of] == stay).all())
    assert torch.allclose(plain(x), m.eval()(x), atol=1e-5)


def test_a_mask_may_change_between_steps_and_not_within_one():
    method = AdaptiveSparse()
    _, m = built(method)
    x, before = torch.randn(2, 16), m.mask()
    method.before_step(m, Clock(0, 0, 1, 1.0), Rng((0,)))
    first = m(x)
    with torch.no_grad():
        m.weight.copy_(torch.where(before, m.weight * 1e-3, m.weight))
    assert not m.mask().equal(before)
    m(x)
    assert m.chosen.equal(before) and first.shape == (2, 6)
    method.before_step(m, Clock(1, 1, 1, 1.0), Rng((0,)))
    m(x)
    assert not m.chosen.equal(before)


def test_sums_of_inputs_begin_with_the_mean_of_what_was_lost():
    old, m = built(AdaptiveSparse(shared=8), inputs=20)
    lost = old.weight.detach().masked_fill(m.mask(), 0)
    assert torch.allclose(m.added, torch.stack([lost[:, :8].mean(1), lost[:, 8:16].mean(1), lost[:, 16:].sum(1) / 8], 1))
    x = torch.randn(4, 20)
    assert torch.allclose(m(x), AdaptiveSparse(shared=8).export(m)(x), atol=1e-5)
    even = torch.ones(1, 16)
    _, m = built(AdaptiveSparse(shared=8))
    assert torch.allclose(m(even), built()[0](even), atol=1e-5)  # equal inputs lose nothing


def test_nonsense_is_refused():
    for knobs in ({"pattern": ""}, {"pattern": "4:2"}, {"pull": -1.0}, {"rise": 2.0}, {"shared": -1}):
        with pytest.raises(ValueError, match="must"):
            AdaptiveSparse(**knobs)
    with pytest.raises(ValueError, match="no plain linear"):
        AdaptiveSparse().build(None, SITE, nn.Identity(), Rng((0,)))
