"""Round to nearest, on one nn.Linear as a library."""

from __future__ import annotations

import pytest
import torch

from bloomery.methods.compress.rtn import RTN


def linear(bias: bool = True) -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(64, 24, bias=bias)


def test_every_weight_is_rounded_by_itself_exactly():
    unit = linear()
    small = RTN(bits=4, group=16).solve(unit, {}, {}, None, None)
    w = unit.weight.detach().view(24, 4, 16)
    largest = w.gather(-1, w.abs().argmax(-1, keepdim=True))
    scale = (largest / -8).half().float()
    wanted = ((w * (1 / scale)).round().clamp(-8, 7) * scale).view(24, 64)
    assert small.weight.equal(wanted) and small.packed.dense().equal(wanted) and small.bias.equal(unit.bias)
    x = torch.randn(5, 64)
    assert small(x).equal(torch.nn.functional.linear(x, wanted, unit.bias))


@pytest.mark.parametrize("symmetric", [True, False])
def test_more_bits_and_smaller_groups_lose_less(symmetric):
    unit = linear()

    def error(**knobs) -> float:
        small = RTN(symmetric=symmetric).solve(unit, {}, knobs, None, None)
        return float((small.weight - unit.weight).detach().norm() / unit.weight.detach().norm())

    by_bits = [error(bits=bits) for bits in range(2, 9)]
    assert by_bits == sorted(by_bits, reverse=True) and by_bits[-1] < 0.01
    assert error(group=16) < error(group=32) < error(group=-1)


def test_knobs_out_of_range():
    with pytest.raises(ValueError, match="bits must be"):
        RTN(bits=1)
