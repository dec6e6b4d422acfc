"""Without gradients it is Wanda; with them a weight that the loss minds stays."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bloomery.methods.compress.gblm import GBLM
from bloomery.methods.compress.wanda import Wanda


def solved(method, unit: nn.Linear, x: torch.Tensor, g: torch.Tensor) -> nn.Linear:
    acc: dict = {}
    for part, by in zip(x.split(30), g.split(30), strict=True):
        method.collect(acc, part, None, by)
    return method.solve(unit, acc, {}, None, None)


@pytest.fixture
def problem() -> tuple[nn.Linear, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return nn.Linear(16, 6), torch.randn(100, 16), torch.randn(100, 6)


@pytest.mark.parametrize("knobs", [{}, {"pattern": "2:4"}])
def test_alpha_of_zero_is_wanda(problem, knobs):
    assert solved(GBLM(alpha=0.0, **knobs), *problem).weight.equal(solved(Wanda(**knobs), *problem).weight)


def test_gradients_are_those_of_every_row_alone(problem):
    _, x, g = problem
    acc: dict = {}
    GBLM().collect(acc, x, None, g)
    by_hand = sum(torch.outer(g[i], x[i]).square() for i in range(len(x)))
    assert torch.allclose(acc["gradient"], by_hand, rtol=1e-4)


def test_a_weight_that_the_loss_minds_stays_and_units_of_the_loss_do_not_matter(problem):
    unit, x, g = problem
    unit.weight.data[0] = torch.linspace(0.5, 1, 16)
    x = torch.ones_like(x)
    x[:50, 0], g[:50, 0] = 3.0, 0.0  # input 0 is large only where the loss is blind to output 0
    mild, strong = (solved(GBLM(alpha=alpha), unit, x, g).weight != 0 for alpha in (0.0, 100.0))
    assert mild[0, 0] and not strong[0, 0]
    assert solved(GBLM(), unit, x, 1e4 * g).weight.equal(solved(GBLM(), unit, x, g).weight)


def test_nothing_seen_and_nonsense_are_refused(problem):
    unit, x, g = problem
    with pytest.raises(ValueError, match="was given none"):
        GBLM().solve(unit, {}, {}, None, None)
    with pytest.raises(ValueError, match="not finite"):
        solved(GBLM(), unit, x, torch.full_like(g, float("inf")))
    with pytest.raises(ValueError, match="alpha must"):
        GBLM(alpha=-1.0)


def test_where_the_loss_minds_nothing_inputs_decide(problem):
    unit, x, g = problem
    assert solved(GBLM(), unit, 1e3 * x, 0 * g).weight.equal(solved(Wanda(), unit, 1e3 * x, g).weight)
