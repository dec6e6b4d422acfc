"""One alpha for the whole model, chosen by its loss; smoothing itself changes nothing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bloomery.core.errors import BadInput
from bloomery.methods.compress.rtn import RTN
from bloomery.methods.compress.smoothquant_plus import SmoothQuantPlus, factors


def stats(x: torch.Tensor) -> dict:
    acc: dict = {}
    for part in x.split(30):
        SmoothQuantPlus().collect(acc, part, None, None)
    return acc


@pytest.fixture
def problem() -> tuple[nn.Linear, torch.Tensor]:
    torch.manual_seed(0)
    x = torch.randn(100, 32)
    x[:, 5] *= 60
    return nn.Linear(32, 12), x


def test_factors_are_those_of_the_formula_up_to_one_number():
    x, w = torch.tensor([1.0, 4.0, 100.0, 0.5]), torch.tensor([0.1, 0.2, 0.05, 0.3])
    for alpha in (0.0, 0.3, 1.0):
        ratio = 1 / factors(x, w, alpha).float() / (x**alpha / w ** (1 - alpha))
        assert torch.allclose(ratio, ratio[0].expand(4), rtol=2e-3)
    assert float(factors(x, w, 0.5).float().log().mean()) == pytest.approx(0, abs=1e-3)
    assert factors(torch.tensor([0.0, 1.0, 2.0]), torch.ones(3), 0.5)[0] == 1, "a silent input is left"


def test_at_many_bits_nothing_is_changed_and_at_four_an_outlier_costs_less(problem):
    unit, x = problem
    exact = SmoothQuantPlus(8, 4, alpha=0.7).solve(unit, stats(x), {}, None, None)
    assert float((exact.weight - unit.weight).detach().norm() / unit.weight.detach().norm()) < 0.02
    ours, plain = SmoothQuantPlus(4, 16).solve(unit, stats(x), {}, None, None), RTN(4, 16).solve(unit, {}, {}, None, None)
    errors = [float((one(x) - unit(x)).detach().norm()) for one in (ours, plain)]
    assert errors[0] < 0.7 * errors[1]


def test_all_units_get_the_alpha_that_is_best_for_the_model(problem):
    unit, x = problem
    units = {"a": unit, "b": nn.Linear(32, 12)}
    asked = []

    def measure(small):
        assert small.keys() == units.keys()
        asked.append(sum(float((small[name](x) - units[name](x)).square().mean()) for name in units))
        return asked[-1]

    method = SmoothQuantPlus(4, 16, tried=5)
    found = method.allocate({name: stats(x) for name in units}, units, math.inf, measure)
    assert len(asked) == 5 and found == {name: {"alpha": asked.index(min(asked)) / 4} for name in units}
    assert SmoothQuantPlus(tried=0).allocate({}, units, math.inf, measure) == {}
    with pytest.raises(BadInput, match="divides none"):
        method.allocate({}, units, 1e4, measure)


def test_nothing_seen_and_knobs(problem):
    with pytest.raises(ValueError, match="was given none"):
        SmoothQuantPlus().solve(problem[0], {}, {}, None, None)
    with pytest.raises(ValueError, match="not finite"):
        SmoothQuantPlus().solve(problem[0], {"largest": torch.full((32,), float("inf"))}, {}, None, None)
    for knobs in ({"alpha": 1.5}, {"tried": 1}):
        with pytest.raises(ValueError, match="alpha must"):
            SmoothQuantPlus(**knobs)
