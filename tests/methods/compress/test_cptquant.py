"""Bits go where the loss minds rounding most, the budget is kept, and equal linears get equal bits."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from bloomery.core.errors import BadInput
from bloomery.methods.compress.cptquant import CPTQuant, divided
from bloomery.methods.compress.rtn import RTN


def units() -> dict[str, nn.Linear]:
    torch.manual_seed(0)
    return {name: nn.Linear(32, 16) for name in "abc"}


def stats(method: CPTQuant, found: dict[str, nn.Linear], strength: dict[str, float]) -> dict:
    made: dict = {name: {} for name in found}
    x = torch.randn(50, 32)
    for name, unit in found.items():
        method.collect(made[name], None, unit(x).detach(), strength[name] * torch.randn(50, 16))
    return made


def test_the_greedy_division_is_the_best_of_all_for_convex_damage():
    torch.manual_seed(1)
    table = {name: [(b, 10 * b, w * 4.0**-b) for b in (2, 3, 4, 5, 6)] for name, w in zip("abcd", (1.0, 9.0, 0.1, 50.0), strict=True)}
    for budget in (90, 140, 170, 230, 1000):
        found = divided(table, budget)
        cost = lambda bits: sum({b: d for b, _, d in table[name]}[one] for name, one in bits.items())  # noqa: E731
        fits = [dict(zip(table, one, strict=True)) for one in itertools.product((2, 3, 4, 5, 6), repeat=4) if 10 * sum(one) <= budget]
        assert 10 * sum(found.values()) <= budget and cost(found) == pytest.approx(min(map(cost, fits)))
    with pytest.raises(BadInput, match="is too small: the fewest bits of 4 linears take 80"):
        divided(table, 79)


def test_by_taylor_the_linear_of_large_gradients_gets_more_bits_and_the_average_is_kept():
    method, found = CPTQuant(RTN(4, 32), average=4.5), units()
    knobs = method.allocate(stats(method, found, {"a": 0.3, "b": 1.0, "c": 3.0}), found, math.inf, None)
    bits = {name: one["bits"] for name, one in knobs.items()}
    assert bits["a"] < bits["b"] < bits["c"]
    small = {name: method.solve(unit, {}, knobs[name], None, None).packed for name, unit in found.items()}
    assert {name: one.bits for name, one in small.items()} == bits
    assert sum(one.bytes for one in small.values()) <= 4.5 * 3 * 512 / 8
    assert method.reads == ("y", "g")


def test_by_pruning_the_loss_is_asked_and_the_model_is_left(monkeypatch):
    method, found = CPTQuant(RTN(4, 32), by="pruning", average=4.5), units()
    before = {name: unit.weight.clone() for name, unit in found.items()}
    minds = {"a": 0.1, "b": 5.0, "c": -1.0}

    def measure(small):
        assert all(int((unit.weight == 0).sum()) == 256 for unit in small.values())
        return 2.0 + sum(minds[name] for name in small)

    bits = {name: one["bits"] for name, one in method.allocate({name: {} for name in found}, found, math.inf, measure).items()}
    assert bits["b"] > bits["a"] >= bits["c"] == 2 and method.reads == ()
    assert all(unit.weight.equal(before[name]) for name, unit in found.items())


def test_knobs_out_of_range():
    for knobs in ({"widths": ()}, {"widths": (1,)}, {"average": 0.0}, {"zeros": 1.0}):
        with pytest.raises(ValueError, match="widths must"):
            CPTQuant(RTN(), **knobs)
