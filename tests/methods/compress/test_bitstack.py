"""Stacks of one-bit blocks, on single linears and handed out over several."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bloomery.core.errors import BadInput
from bloomery.methods.compress.bitstack import BitStack, decompose, scales
from bloomery.nn.stacked import unpack
from bloomery.num.lowrank import thin


def linear(rows: int = 24, columns: int = 40, seed: int = 0) -> nn.Linear:
    unit = nn.Linear(columns, rows)
    with torch.no_grad():
        unit.weight.normal_(generator=torch.Generator().manual_seed(seed))
    return unit


def inputs(columns: int = 40, seed: int = 1) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(300, columns, generator=g) * torch.logspace(-1, 1, columns)


def calibrated(method: BitStack, x: torch.Tensor) -> dict:
    acc: dict = {}
    for part in x.split(77):
        method.collect(acc, part, None, None)
    return acc


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (24, 24)])
def test_exact_the_blocks_are_numpys_decomposition_of_what_is_left(shape):
    w = linear(*shape).weight.detach().double()
    left, right, signs = decompose(w, 3, 5)
    rest = w.numpy().copy()
    for block in range(3):
        u, s, vt = np.linalg.svd(np.abs(rest), full_matrices=False)
        sign = np.where(rest < 0, -1.0, 1.0)
        assert np.array_equal(unpack(signs[block], shape[1]).numpy(), sign)
        ours = (left[block].double() @ right[block].double()).numpy()
        assert np.abs(ours - (u[:, :5] * s[:5]) @ vt[:5]).max() < 4e-3 * np.abs(ours).max(), "up to float16"
        rest = rest - sign * ours
    plain = decompose(w, 1, 5, signs=False)
    u, s, vt = np.linalg.svd(w.numpy(), full_matrices=False)
    assert plain[2] is None and np.allclose((plain[0][0].double() @ plain[1][0].double()).numpy(), (u[:, :5] * s[:5]) @ vt[:5], atol=5e-3)


def test_exact_degenerate_weights():
    """Equal absolute values are one block of rank 1, whatever their signs; zeros stay zeros; full rank needs no second block."""
    unit = linear()
    with torch.no_grad():
        unit.weight.copy_(unit.weight.sign() * 0.5)
    small = BitStack(rank=1, blocks=1, scaled=False).solve(unit, {}, {}, None, None)
    assert torch.allclose(small.weight, unit.weight, atol=1e-3)
    assert small.packed.bits == pytest.approx(1 + (16 * 64 + 32) / (24 * 40), abs=1e-9)
    unit.weight.data.zero_()
    assert BitStack(rank=3, blocks=2, scaled=False).solve(unit, {}, {}, None, None).weight.equal(unit.weight)
    w = linear().weight.double()
    left, right = thin(w, 24)
    assert torch.allclose(left @ right, w, atol=1e-6)


def test_property_every_block_brings_the_outputs_nearer_and_scaling_does_too():
    unit, x = linear(), inputs()
    y = unit(x).detach() - unit.bias.detach()

    def error(small: nn.Linear) -> float:
        return float((small(x) - small.bias - y).detach().norm() / y.norm())

    def at(blocks: int, **knobs) -> float:
        method = BitStack(rank=1, blocks=blocks, **knobs)
        return error(method.solve(unit, calibrated(method, x), {}, None, None))

    by_blocks = [at(n) for n in range(1, 7)]
    assert by_blocks == sorted(by_blocks, reverse=True) and by_blocks[-1] < 0.2 * by_blocks[0]
    assert at(2) < at(2, scaled=False)
    unit, x, method = linear(96, 160), inputs(160), BitStack(rank=1, blocks=3)
    y = unit(x).detach() - unit.bias.detach()
    small, plain = (BitStack(rank=1, blocks=3, signs=s).solve(unit, calibrated(method, x), {}, None, None) for s in (True, False))
    assert abs(small.packed.bytes - plain.packed.bytes) < 0.15 * small.packed.bytes
    assert error(small) < error(plain), "plain truncated SVD of as many bytes"
    scale = scales(calibrated(method, x)).double()
    assert torch.allclose(scale / scale[0], x.double().square().mean(0).sqrt() / x[:, 0].double().square().mean().sqrt(), rtol=2e-3)


class Model:
    """Units whose loss is known: each has a weight in it, so the order that a sort should find is known too."""

    def __init__(self, weights: dict[str, float]) -> None:
        self.units = {name: linear(seed=i) for i, name in enumerate(weights)}
        self.weights, self.asked = weights, 0

    def measure(self, units) -> float:
        self.asked += 1
        gone = {name: float((unit.weight - self.units[name].weight).detach().square().sum()) for name, unit in units.items()}
        return sum(self.weights[name] * one for name, one in gone.items())


def allotted(method: BitStack, model: Model, budget: float = float("inf")):
    stats = {name: calibrated(method, inputs()) for name in model.units}
    return {name: knobs["stack"] for name, knobs in method.allocate(stats, model.units, budget, model.measure).items()}


def test_the_block_that_lowers_the_loss_most_comes_first_and_none_is_more_than_one_ahead():
    model = Model({"a": 1.0, "b": 10.0, "c": 3.0})
    method = BitStack(rank=1, blocks=4)
    whole = allotted(method, model)
    order = sorted((place, name) for name, one in whole.items() for place in one.places_N.tolist())
    assert [place for place, _ in order] == list(range(12)) and [name for _, name in order] == list("abc" + "bca" * 3)
    assert model.asked == 9
    for budget in range(sum(one.first(1).bytes for one in whole.values()), sum(one.bytes for one in whole.values()) + 50, 37):
        some = allotted(BitStack(rank=1, blocks=4, sort="error"), model, budget)
        blocks = [one.blocks for one in some.values()]
        assert max(blocks) - min(blocks) <= 1 and sum(one.bytes for one in some.values()) <= budget
        left = budget - sum(one.bytes for one in some.values())
        assert left < max(one.block_bytes for one in some.values()) or sum(blocks) == 12
    assert model.asked == 9, "sort: error asks for no pass through the model"


def test_a_smaller_budget_is_the_beginning_of_a_larger_one():
    model, method = Model({"a": 1.0, "b": 10.0, "c": 3.0}), BitStack(rank=2, blocks=5)
    whole = allotted(method, model)
    some = allotted(method, model, 0.6 * sum(one.bytes for one in whole.values()))
    for name, one in some.items():
        again = whole[name].first(one.blocks)
        assert one.places_N.equal(again.places_N) and one.dense().equal(again.dense()) and one.blocks < whole[name].blocks
    with pytest.raises(BadInput, match="is too small: one block of each of 3 linears takes"):
        allotted(method, model, 100)


def test_bad_input():
    with pytest.raises(ValueError, match="rank and blocks"):
        BitStack(rank=0)
    with pytest.raises(ValueError, match="was given none"):
        BitStack().solve(linear(), {}, {}, None, None)
    method, x = BitStack(), inputs()
    x[0, 0] = float("inf")
    with pytest.raises(ValueError, match="not finite"):
        method.solve(linear(), calibrated(method, x), {}, None, None)
    huge = linear()
    huge.weight.data *= 1e12
    with pytest.raises(BadInput, match="beyond float16"):
        method.solve(huge, calibrated(method, inputs()), {}, None, None)
