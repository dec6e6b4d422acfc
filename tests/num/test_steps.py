"""Rounding with gradients: LSQ's own, and the very numbers that packed codes stand for."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from bloomery.nn.packed import Packed
from bloomery.num.grids import Grid
from bloomery.num.steps import LEAST, apart_from_zero, half, on_grid


@settings(max_examples=40, deadline=None)
@given(some.integers(2, 8), some.integers(1, 40), some.integers(1, 50), some.booleans(), some.booleans(), some.integers(0, 1000))
def test_it_gives_what_packed_codes_stand_for(bits, group, columns, zeros, shifts, seed):
    g = torch.Generator().manual_seed(seed)
    low, high, width = -(1 << (bits - 1)), (1 << (bits - 1)) - 1, min(group, columns)
    w, shape = torch.randn(3, columns, generator=g), (3, -(-columns // width))
    scale = 0.3 * torch.randn(shape, generator=g)
    zero = torch.randn(shape, generator=g) * high if zeros else None
    shift = torch.randn(shape, generator=g) if shifts else None
    value, codes = on_grid(w, scale, width, low, high, zero, shift)
    small = Packed(
        codes.to(torch.int8), apart_from_zero(scale).half(), None if zero is None else zero.round().clamp(low, high).to(torch.int8), bits,
        width, shift_OG=None if shift is None else half(shift).half(),
    )  # fmt: skip
    assert value.equal(small.dense()) and float(codes.min()) >= low and float(codes.max()) <= high


def test_gradients_are_those_of_lsq():
    torch.manual_seed(0)
    w, scale = torch.randn(2, 12), torch.full((2, 3), 0.5)
    w, scale = w.requires_grad_(), scale.requires_grad_()
    value, codes = on_grid(w, scale, 4, -2, 1)
    weigh = torch.randn_like(value)
    (value * weigh).sum().backward()
    steps = (w / scale.repeat_interleave(4, 1)).detach()
    inside = (steps.round() >= -2) & (steps.round() <= 1)
    assert w.grad.equal(torch.where(inside, weigh, 0.0))
    by_scale = torch.where(inside, steps.round() - steps, codes) * weigh
    assert torch.allclose(scale.grad, by_scale.view(2, 3, 4).sum(-1), atol=1e-5)
    assert bool((~inside).any() and inside.any())


def test_no_scale_is_nothing():
    scale = torch.tensor([0.0, 1e-9, -1e-9, 0.5, -0.5])
    assert apart_from_zero(scale).tolist() == [LEAST, LEAST, -LEAST, 0.5, -0.5]
    value, _ = on_grid(torch.ones(1, 4), torch.zeros(1, 1), 4, -8, 7)
    assert bool(value.isfinite().all())


def test_the_first_codes_are_those_of_the_grid():
    torch.manual_seed(1)
    w, grid = torch.randn(5, 64), Grid(4, 16, symmetric=False)
    scale, zero = grid.fit(w)
    _, codes = on_grid(w, scale.float(), 16, grid.low, grid.high, zero.float())
    apart = (codes - grid.round(w, (scale, zero))).abs()
    assert float(apart.max()) <= 1 and float((apart > 0).float().mean()) < 0.01
