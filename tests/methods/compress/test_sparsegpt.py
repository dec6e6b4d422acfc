"""Against a slow reference, exact where inputs are independent, and better than Wanda where they are not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bloomery.methods.compress.sparsegpt import SparseGPT, pruned
from bloomery.methods.compress.wanda import Wanda


def problem(rows: int = 12, columns: int = 32, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(columns, columns, generator=g, dtype=torch.float64) * torch.logspace(0, -1.5, columns, dtype=torch.float64)[:, None]
    return torch.randn(rows, columns, generator=g, dtype=torch.float64), torch.randn(400, columns, generator=g, dtype=torch.float64) @ mix


def slow(w: torch.Tensor, hessian: torch.Tensor, stay: int, of: int, damp: float) -> torch.Tensor:
    """One column after the other; the inverse Hessian of the open columns is computed anew for each."""
    w, columns = w.clone(), w.shape[1]
    hessian = hessian + damp * hessian.diagonal().mean() * torch.eye(columns, dtype=w.dtype)
    keep = torch.ones_like(w, dtype=torch.bool)
    for j in range(columns):
        inverse = torch.linalg.inv(hessian[j:, j:])
        if j % of == 0:  # each column's cost if those before it in the group were closed
            costs = [w[:, j + k] ** 2 / torch.linalg.inv(hessian[j + k :, j + k :])[0, 0] for k in range(min(of, columns - j))]
            order = torch.stack(costs, 1).argsort(1, descending=True)
            keep[:, j : j + of] = torch.zeros_like(order, dtype=torch.bool).scatter(1, order[:, :stay], True)
        settled = torch.where(keep[:, j], w[:, j].half().double(), 0)
        w[:, j:] -= ((w[:, j] - settled) / inverse[0, 0])[:, None] * inverse[0]
        w[:, j] = settled
    return w


@pytest.mark.parametrize("block", [4, 8, 128])
@pytest.mark.parametrize("kept", [(2, 4), (1, 2)])
def test_equals_the_slow_reference(kept, block):
    w, x = problem()
    hessian = x.T @ x / len(x)
    ours, wanted = pruned(w, hessian, 0.5, kept, 0.01, block), slow(w, hessian, *kept, 0.01)
    assert (ours != 0).equal(wanted != 0) and torch.allclose(ours, wanted, rtol=2e-3, atol=1e-6)


def test_independent_equal_inputs_leave_the_largest_weights_as_they_are():
    w = problem()[0]
    ours = pruned(w, torch.eye(32, dtype=torch.float64), 0.5, None, 0.01, 128)
    assert torch.allclose(ours[ours != 0], w[ours != 0], rtol=1e-3)
    assert int((ours == 0).sum()) == w.numel() // 2 and w[ours == 0].abs().max() <= w.abs().max()
    for row, old in zip(ours, w, strict=True):
        assert old[row == 0].abs().max() <= old[row != 0].abs().min()


@pytest.mark.parametrize("knobs", [{}, {"pattern": "2:4"}, {"zeros": 0.7}])
def test_outputs_change_less_than_by_wanda(knobs):
    for seed in range(3):
        w, x = (t.float() for t in problem(24, 64, seed))
        unit = nn.Linear(64, 24)
        unit.weight.data = w
        errors = []
        for method in (SparseGPT(**knobs), Wanda(**knobs)):
            acc: dict = {}
            method.collect(acc, x, None, None)
            small = method.solve(unit, acc, {}, None, None)
            errors.append(float((small(x) - unit(x)).detach().norm()))
        assert errors[0] < 0.95 * errors[1]


def test_knobs_out_of_range_and_nothing_seen():
    with pytest.raises(ValueError, match="damp must"):
        SparseGPT(damp=0.0)
    with pytest.raises(ValueError, match="was given none"):
        SparseGPT().solve(nn.Linear(4, 4), {}, {}, None, None)
