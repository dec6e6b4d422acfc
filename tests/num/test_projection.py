"""Subspaces of the short side: orthonormal, leading, of fixed sign, and exact at full rank."""

from __future__ import annotations

import pytest
import torch

from bloomery.num.projection import basis, low, project, unproject


@pytest.mark.parametrize("shape", [(12, 5), (5, 12), (6, 6)])
def test_the_projection_is_the_best_of_its_rank(shape: tuple[int, int]) -> None:
    g = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = basis(g, 3)
    assert torch.allclose(found.T @ found, torch.eye(3, dtype=torch.float64), atol=1e-12)
    r = project(g, found)
    assert tuple(r.shape) == low(g, 3)
    left = float((g - unproject(r, found, g.shape)).norm() ** 2)
    assert left == pytest.approx(float(torch.linalg.svdvals(g)[3:].square().sum()), rel=1e-9)
    assert torch.equal(basis(-g, 3), found) and torch.equal(basis(g, 99), torch.eye(min(shape), dtype=torch.float64))
