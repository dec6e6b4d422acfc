"""Weights go by what they pass on: equal inputs leave magnitude, a silent input loses all its weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bloomery.methods.compress.magnitude import Magnitude
from bloomery.methods.compress.wanda import Wanda


def solved(method, unit: nn.Linear, x: torch.Tensor) -> nn.Linear:
    acc: dict = {}
    for part in x.split(30):
        method.collect(acc, part, None, None)
    return method.solve(unit, acc, {}, None, None)


@pytest.fixture
def unit() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(16, 6)


def test_with_equal_inputs_it_is_magnitude_in_every_row(unit):
    x = torch.ones(10, 16) * torch.tensor([1.0, -1.0]).repeat(5)[:, None]
    for knobs in ({}, {"pattern": "2:4"}, {"zeros": 0.75}):
        theirs = Magnitude(over="row", **knobs).solve(unit, {}, {}, None, None)
        assert solved(Wanda(**knobs), unit, x).weight.equal(theirs.weight)


def test_scores_are_those_of_the_formula(unit):
    x = torch.randn(100, 16) * torch.arange(16)
    score = unit.weight.abs() * x.square().sum(0).sqrt()
    small = solved(Wanda(), unit, x)
    assert not small.weight[:, 0].any(), "an input that is always zero needs no weight"
    assert (small.weight != 0).equal(score >= score.sort(descending=True).values[:, 7:8])


def test_outputs_change_less_than_by_magnitude(unit):
    x = torch.randn(500, 16) * torch.logspace(-1, 1, 16)
    errors = [float((solved(one, unit, x)(x) - unit(x)).detach().norm()) for one in (Wanda(), Magnitude())]
    assert errors[0] < 0.7 * errors[1]


def test_nothing_seen_and_nonsense_are_refused(unit):
    with pytest.raises(ValueError, match="was given none"):
        Wanda().solve(unit, {}, {}, None, None)
    with pytest.raises(ValueError, match="not finite"):
        solved(Wanda(), unit, torch.full((3, 16), float("nan")))
