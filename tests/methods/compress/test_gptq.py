"""GPTQ against a slow reference, in degenerate cases, and against rounding to nearest."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from bloomery.methods.compress.gptq import GPTQ, gptq
from bloomery.methods.compress.rtn import RTN
from bloomery.nn.packed import Packed
from bloomery.num.grids import Grid


def problem(rows: int = 12, columns: int = 48, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A weight and inputs that depend on each other, in fp64."""
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(columns, columns, generator=g, dtype=torch.float64) * torch.logspace(0, -1.5, columns, dtype=torch.float64)[:, None]
    return torch.randn(rows, columns, generator=g, dtype=torch.float64), torch.randn(400, columns, generator=g, dtype=torch.float64) @ mix


def slow(w: Tensor, hessian: Tensor, grid: Grid, damp: float, activation: bool) -> Tensor:
    """One column after the other; the inverse Hessian of the open columns is computed anew for each. Dense result."""
    w, columns = w.clone(), w.shape[1]
    hessian = hessian + damp * hessian.diagonal().mean() * torch.eye(columns, dtype=w.dtype)
    order = hessian.diagonal().argsort(descending=True, stable=True).tolist() if activation else list(range(columns))
    width, fixed, out = grid.width(columns), grid.fit(w), torch.zeros_like(w)
    for place, j in enumerate(order):
        first = j // width * width
        if not activation and j == first:
            local = grid.fit(w[:, first : first + width])
        scale, zero = ((t[:, j // width, None] if t is not None else None) for t in fixed) if activation else local
        codes = grid.round(w[:, j, None], (scale, zero))
        out[:, j] = (codes.to(w.dtype) - (0 if zero is None else zero.to(w.dtype)))[:, 0] * scale[:, 0].to(w.dtype)
        still = order[place:]
        inverse = torch.linalg.inv(hessian[still][:, still])
        w[:, still] -= (w[:, j] - out[:, j])[:, None] / inverse[0, 0] * inverse[0]
    return out


@pytest.mark.parametrize("activation", [True, False], ids=["activation", "plain"])
@pytest.mark.parametrize("block", [1, 16, 128])
@pytest.mark.parametrize("symmetric,group", [(True, 16), (False, 16), (True, 20), (True, -1)])
def test_equals_the_slow_reference(activation, block, symmetric, group):
    (w, x), grid = problem(), Grid(4, group, symmetric)
    hessian = x.T @ x / len(x)
    codes, fitted = gptq(w, hessian, grid, 0.01, activation, block)
    dense = Packed(codes, *fitted, 4, grid.width(48)).dense()
    assert torch.allclose(dense.double(), slow(w, hessian, grid, 0.01, activation), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("activation", [True, False])
def test_independent_inputs_leave_plain_rounding(activation):
    w = problem()[0].float()
    for hessian, symmetric in itertools.product((torch.eye(48), torch.rand(48).add(0.1).diag(), torch.zeros(48, 48)), (True, False)):
        grid = Grid(4, 16, symmetric)
        codes, (scale, _) = gptq(w, hessian, grid, 0.01, activation, 32)
        assert codes.equal(grid.round(w, grid.fit(w))) and scale.equal(grid.fit(w)[0])


def library(method, unit: nn.Linear, x: Tensor) -> nn.Linear:
    """One linear, no driver."""
    acc: dict = {}
    for part in x.split(100):
        method.collect(acc, part, None, None)
    return method.solve(unit, acc, {}, None, None)


@pytest.mark.parametrize("order", ["activation", "plain"])
@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_output_error_is_lower_than_that_of_rounding(order, bits, symmetric):
    for seed in range(3):
        w, x = (t.float() for t in problem(24, 64, seed))
        unit = nn.Linear(64, 24)
        unit.weight.data = w
        knobs = {"bits": bits, "group": 16, "symmetric": symmetric}
        ours, theirs = (library(m, unit, x) for m in (GPTQ(**knobs, order=order), RTN(**knobs)))
        fresh = problem(24, 64, seed)[1].float().flip(0)
        errors = [float((unit(fresh) - small(fresh)).detach().norm()) for small in (ours, theirs)]
        assert errors[0] < 0.8 * errors[1]
        assert ours.packed.order is None and ours.bias.equal(unit.bias)


def test_the_hessian_is_the_mean_over_all_parts():
    x = problem()[1].float()
    whole, parts = {}, {}
    GPTQ().collect(whole, x, None, None)
    for part in x.split([1, 99, 300]):
        GPTQ().collect(parts, part, None, None)
    assert torch.allclose(whole["hessian"], parts["hessian"], rtol=1e-4, atol=1e-5)
    exact = problem()[1].T @ problem()[1] / 400
    assert torch.allclose(whole["hessian"].double(), exact, rtol=1e-4, atol=1e-5)
    rough = {}
    GPTQ(precision="bfloat16").collect(rough, x, None, None)
    assert rough["hessian"].dtype == torch.float32 and 0 < (rough["hessian"] - exact).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("order", ["activation", "plain"])
def test_zeros_of_a_pruned_weight_stay_where_asked(symmetric, order):
    w, x = (t.float() for t in problem(24, 64))
    unit = nn.Linear(64, 24)
    unit.weight.data = torch.where(torch.rand(24, 64, generator=torch.Generator().manual_seed(1)) < 0.5, 0, w)
    zero = unit.weight == 0
    kept, filled = (library(GPTQ(4, 16, symmetric, order=order, keep_zeros=keep), unit, x) for keep in (True, False))
    assert not kept.weight[zero].any() and filled.weight[zero].any()
    plain = RTN(4, 16, symmetric).solve(unit, {}, {}, None, None)
    errors = [float((one(x) - unit(x)).detach().norm()) for one in (filled, kept, plain)]
    assert errors[0] < errors[1] < 0.9 * errors[2]


def test_columns_that_no_input_reached_are_rounded_and_change_nothing():
    w, x = (t.float() for t in problem())
    x[:, ::5] = 0
    hessian, grid = x.T @ x / len(x), Grid(8, -1)
    codes, fitted = gptq(w, hessian, grid)
    assert codes[:, ::5].equal(grid.round(w, grid.fit(w))[:, ::5])
    dense = Packed(codes, *fitted, 8, 48).dense()
    assert (x @ (dense - w).T).norm() < (x @ (Packed(grid.round(w, fitted), *fitted, 8, 48).dense() - w).T).norm()
    assert bool(dense.isfinite().all())


def test_fewer_inputs_than_columns_still_factor_and_nonsense_is_refused():
    w, x = (t.float() for t in problem())
    codes, _ = gptq(w, x[:3].T @ x[:3], Grid(4, 16), damp=1e-9)
    assert codes.shape == (12, 48)
    x[0, 0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        gptq(w, x.T @ x, Grid(4, 16))
    with pytest.raises(ValueError, match="was given none"):
        GPTQ().solve(nn.Linear(4, 4), {}, {}, None, None)


@pytest.mark.parametrize("knobs", [{"bits": 9}, {"damp": 0.0}, {"block": 0}, {"group": 0}])
def test_knobs_out_of_range(knobs):
    with pytest.raises(ValueError, match="must be"):
        GPTQ(**knobs)
