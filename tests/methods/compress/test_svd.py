"""The nearest product by weights, and by outputs on inputs that depend on each other."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bloomery.methods.compress.svd import SVD, rank_of


def solved(method: SVD, unit: nn.Linear, x: torch.Tensor) -> nn.Linear:
    acc: dict = {}
    for part in x.split(100):
        method.collect(acc, part if method.reads else None, None, None)
    return method.solve(unit, acc, {}, None, None)


@pytest.fixture
def problem() -> tuple[nn.Linear, torch.Tensor]:
    torch.manual_seed(0)
    return nn.Linear(48, 20), torch.randn(400, 48) @ (torch.randn(48, 48) * torch.logspace(0, -1.5, 48)[:, None])


def test_by_weights_it_is_the_truncated_decomposition(problem):
    unit, x = problem
    u, s, v = torch.linalg.svd(unit.weight.detach(), full_matrices=False)
    rank = rank_of(0.5, 20, 48)
    assert torch.allclose(solved(SVD(0.5, "weights"), unit, x).weight, (u[:, :rank] * s[:rank]) @ v[:rank], atol=1e-3)


def test_by_outputs_no_product_of_that_rank_is_nearer(problem):
    unit, x = problem
    ours, plain = (solved(SVD(0.5, near, damp=1e-8), unit, x) for near in ("outputs", "weights"))
    y = (x @ unit.weight.T).detach().double()
    s = torch.linalg.svdvals(y)
    rank = rank_of(0.5, 20, 48)
    least = float(s[rank:].norm())
    errors = [float((x @ one.weight.T - y).detach().norm()) for one in (ours, plain)]
    assert least <= errors[0] * 1.0001 and errors[0] < 1.02 * least + 0.05 and errors[0] < 0.8 * errors[1]
    assert ours.packed.bytes <= 0.5 * 2 * 20 * 48 + 4


def test_shares_and_knobs(problem):
    assert rank_of(1.0, 20, 48) == 14 and rank_of(0.001, 20, 48) == 1 and rank_of(2.0, 20, 48) == 20
    whole = solved(SVD(share=2.0, near="weights"), *problem)
    assert torch.allclose(whole.weight, problem[0].weight, atol=1e-3)
    for knobs in ({"share": 0.0}, {"damp": 0.0}):
        with pytest.raises(ValueError, match="share must"):
            SVD(**knobs)
    with pytest.raises(ValueError, match="was given none"):
        SVD().solve(problem[0], {}, {}, None, None)
