"""Large inputs get finer weights, and where no power helps it is plain rounding."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bloomery.methods.compress.awq import AWQ, divisors, scaled
from bloomery.methods.compress.rtn import RTN
from bloomery.num.grids import Grid


def solved(method, unit: nn.Linear, x: torch.Tensor) -> nn.Linear:
    acc: dict = {}
    for part in x.split(100):
        method.collect(acc, part, None, None)
    return method.solve(unit, acc, {}, None, None)


@pytest.fixture
def unit() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(64, 24)


def test_it_is_the_best_of_all_powers_and_plain_rounding_is_one_of_them(unit):
    x = torch.randn(300, 64) * torch.logspace(-1.5, 1.5, 64)[torch.randperm(64)]
    ours, grid = solved(AWQ(group=16, powers=8), unit, x), Grid(4, 16)
    errors = [
        float((x @ (scaled(unit.weight.detach(), divisors(x.abs().sum(0), i / 8), grid, "").dense() - unit.weight).T).detach().norm())
        for i in range(9)
    ]
    assert float((ours(x) - unit(x)).detach().norm()) == pytest.approx(min(errors), rel=1e-3)
    plain = RTN(group=16).solve(unit, {}, {}, None, None)
    assert errors[0] == pytest.approx(float((plain(x) - unit(x)).detach().norm()), rel=1e-3) and min(errors) < 0.8 * errors[0]
    assert ours.packed.input_I.dtype == torch.float16 and not ours.packed.uniform


def test_equal_inputs_leave_plain_rounding(unit):
    x = torch.cat([torch.eye(64), -torch.eye(64)])
    ours = solved(AWQ(group=16), unit, x)
    assert ours.weight.equal(RTN(group=16).solve(unit, {}, {}, None, None).weight) and ours.packed.uniform


def test_silent_inputs_and_no_inputs(unit):
    x = torch.randn(50, 64)
    x[:, ::2] = 0
    assert bool(solved(AWQ(), unit, x).weight.isfinite().all())
    with pytest.raises(ValueError, match="was given none"):
        AWQ().solve(unit, {}, {}, None, None)
    with pytest.raises(ValueError, match="powers must"):
        AWQ(powers=0)
