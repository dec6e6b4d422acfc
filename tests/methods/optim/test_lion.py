"""Lion against its update rule written out, and the size of its steps."""

from __future__ import annotations

import pytest
import torch

from bloomery.methods.optim.lion import Lion
from bloomery.seams import Rng


def test_follows_the_written_rule() -> None:
    method, g = Lion(0.9, 0.99), torch.Generator().manual_seed(0)
    p = torch.randn(5, 3, generator=g, dtype=torch.float64)
    ours, theirs, m, s = p.clone(), p.clone(), torch.zeros_like(p), method.init(p)
    for t in range(1, 30):
        grad = torch.randn(5, 3, generator=g, dtype=torch.float64)
        ours = ours - 0.01 * method.direction(grad.clone(), ours, s, t, Rng((0,)))
        theirs = theirs - 0.01 * torch.sign(0.9 * m + 0.1 * grad)
        m = 0.99 * m + 0.01 * grad
    assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-14) and torch.allclose(s["m"], m, rtol=1e-12)


def test_every_number_moves_by_one_whatever_the_gradient_and_half_of_adams_state_is_kept() -> None:
    method, p = Lion(), torch.zeros(100)
    s = method.init(p)
    for scale in (1e-6, 1.0, 1e6):
        assert set(method.direction(scale * torch.randn(100), p, s, 1, Rng((0,))).abs().tolist()) == {1.0}
    assert list(s) == ["m"] and s["m"].numel() == 100
    with pytest.raises(ValueError, match="beta2"):
        Lion(beta2=1.0)
