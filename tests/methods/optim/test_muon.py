"""Muon against momentum and a singular value decomposition, and the shape of its steps."""

from __future__ import annotations

import math

import pytest
import torch

from bloomery.methods.optim.muon import Muon
from bloomery.seams import Rng

A, B, C = 3.4445, -4.7750, 2.0315


def by_singular_values(m: torch.Tensor, steps: int) -> torch.Tensor:
    """The quintic applied to every singular value: what the matrix products compute without a decomposition."""
    u, s, vh = torch.linalg.svd(m, full_matrices=False)
    s = s / s.norm()
    for _ in range(steps):
        s = A * s + B * s**3 + C * s**5
    return u @ torch.diag(s) @ vh


@pytest.mark.parametrize("shape", [(12, 5), (5, 12), (7, 7)])
def test_is_the_quintic_of_the_singular_values_of_the_momentum(shape: tuple[int, int]) -> None:
    method, g = Muon(momentum=0.9, rms=0.0), torch.Generator().manual_seed(0)
    p = torch.zeros(shape, dtype=torch.float64)
    s, m = method.init(p), torch.zeros_like(p)
    for t in range(1, 5):
        grad = torch.randn(shape, generator=g, dtype=torch.float64)
        m = 0.9 * m + grad
        wanted = by_singular_values(grad + 0.9 * m, 5) * math.sqrt(max(1, shape[0] / shape[1]))
        assert torch.allclose(method.direction(grad, p, s, t, Rng((0,))), wanted, rtol=1e-9, atol=1e-9)


def test_singular_values_are_near_one_and_scale_of_the_gradient_does_not_matter() -> None:
    g = torch.Generator().manual_seed(1)
    grad, p = torch.randn(24, 40, generator=g), torch.zeros(24, 40)
    found = [Muon(rms=0.0).direction(scale * grad, p, Muon().init(p), 1, Rng((0,))) for scale in (1.0, 1e-4)]
    values = torch.linalg.svdvals(found[0])
    assert float(values.min()) > 0.6 and float(values.max()) < 1.3
    assert torch.allclose(*found, atol=1e-4)
    scaled = Muon(rms=0.2).direction(grad, p, Muon().init(p), 1, Rng((0,)))
    assert float(scaled.square().mean().sqrt()) == pytest.approx(0.2, rel=0.2)
    assert not Muon().direction(torch.zeros(4, 6), torch.zeros(4, 6), Muon().init(torch.zeros(4, 6)), 1, Rng((0,))).any()
    with pytest.raises(ValueError, match="momentum"):
        Muon(momentum=1.0)
