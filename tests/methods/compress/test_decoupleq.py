"""Every turn lowers the error or is undone; scales are the least-squares ones; two bits beat GPTQ's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bloomery.methods.compress import decoupleq
from bloomery.methods.compress.decoupleq import DecoupleQ, best_scales, decoupled
from bloomery.methods.compress.gptq import GPTQ
from bloomery.methods.compress.rtn import RTN
from bloomery.nn.packed import spread
from bloomery.num.hessian import output_error


def problem(rows: int = 24, columns: int = 64, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(columns, columns, generator=g) * torch.logspace(0, -1.5, columns)[:, None]
    x = torch.randn(600, columns, generator=g) @ mix
    return torch.randn(rows, columns, generator=g), x.T @ x / 600 + 1e-3 * torch.eye(columns)


@pytest.mark.parametrize(("columns", "held"), [(64, 1 << 24), (56, 1 << 24), (56, 1)], ids=["even", "narrower last group", "row by row"])
def test_scales_and_shifts_are_the_least_squares_solution(monkeypatch, columns, held):
    monkeypatch.setattr(decoupleq, "HELD", held)
    w, hessian = problem(columns=columns)
    codes = torch.randint(-2, 2, w.shape).float()
    scale, shift = best_scales(w, codes, hessian, 16, damp=1e-7)
    root = torch.linalg.cholesky(hessian.double()).T
    place = torch.arange(columns) // 16
    for row in (0, 11, 23):
        member = nn.functional.one_hot(place, 4).double()
        basis = torch.cat([codes[row, :, None] * member, member], dim=1)
        wanted = torch.linalg.lstsq(root @ basis, (root @ w[row].double())[:, None]).solution[:, 0]
        assert torch.allclose(torch.cat([scale[row], shift[row]]).double(), wanted, rtol=5e-3, atol=5e-3)


def test_more_turns_are_never_worse():
    w, hessian = problem()
    errors = []
    for turns in (1, 2, 4):
        codes, scale, shift = decoupled(w, hessian, DecoupleQ(2, 16).grid, turns, 0.01)
        assert codes.min() >= -2 and codes.max() <= 1 and codes.equal(codes.round())
        errors.append(output_error(codes * spread(scale.float(), 16, 64) + spread(shift.float(), 16, 64) - w, hessian))
    assert bool((errors[1] <= errors[0] * 1.0001).all() and (errors[2] <= errors[1] * 1.0001).all()) and errors[2].sum() < errors[0].sum()


@pytest.mark.parametrize("bits", [2, 3])
def test_outputs_change_less_than_by_gptq_and_by_rounding(bits):
    for seed in range(3):
        w, hessian = problem(seed=seed)
        unit = nn.Linear(64, 24, bias=False)
        unit.weight.data = w
        found = {}
        for method in (DecoupleQ(bits, 32), GPTQ(bits, 32, symmetric=False), RTN(bits, 32, symmetric=False)):
            small = method.solve(unit, {"hessian": hessian.clone(), "rows": 600}, {}, None, None)
            found[type(method).__name__] = float(output_error((small.weight - w).detach(), hessian).sum())
        assert found["DecoupleQ"] < 0.95 * found["GPTQ"] < found["RTN"]


def test_what_is_stored_is_what_was_solved_and_knobs_are_checked():
    w, hessian = problem()
    unit = nn.Linear(64, 24)
    unit.weight.data = w
    small = DecoupleQ(2, 16).solve(unit, {"hessian": hessian, "rows": 600}, {}, None, None)
    assert small.packed.shift_OG.shape == (24, 4) and small.packed.dense().equal(small.weight)
    with pytest.raises(ValueError, match="turns must"):
        DecoupleQ(turns=0)
