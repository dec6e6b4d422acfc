from __future__ import annotations

import pytest
import torch
from torch import nn

from bloomery.methods.module.low_rank import LowRank
from bloomery.seams import Rng, Site

AT = Site("linear", "blocks.0.mlp.down", 0, 1)


def test_at_full_rank_it_is_the_linear_and_below_it_the_nearest_product():
    old, x = nn.Linear(7, 9), torch.randn(4, 7)
    torch.testing.assert_close(LowRank(7).build(None, AT, old, Rng((0,)))(x), old(x), rtol=1e-4, atol=1e-5)
    m = LowRank(3).build(None, AT, old, Rng((0,)))
    values = torch.linalg.svdvals(old.weight)
    left = (m.plain().weight - old.weight).norm()
    torch.testing.assert_close(left, values[3:].square().sum().sqrt(), rtol=1e-4, atol=1e-5)  # Eckart & Young 1936
    torch.testing.assert_close(m.plain()(x), m(x), rtol=1e-4, atol=1e-5)


def test_it_holds_only_its_factors():
    m = LowRank(3).build(None, AT, nn.Linear(20, 30, bias=False), Rng((0,)))
    assert {name: tuple(p.shape) for name, p in m.named_parameters()} == {"a": (3, 20), "b": (30, 3)}
    torch.testing.assert_close(m.a.norm(), m.b.norm())  # both factors are of one size, so one rate suits both
    with pytest.raises(ValueError, match="no plain linear"):
        LowRank(3).build(None, AT, m, Rng((0,)))
