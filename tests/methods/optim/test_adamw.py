"""AdamW against torch's own, as a method and as a library."""

from __future__ import annotations

import pytest
import torch

from bloomery.methods.optim.adamw import AdamW
from bloomery.seams import Rng
from bloomery.train.as_torch import as_torch


def test_follows_torch_adamw_exactly() -> None:
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.ones(7, 3, dtype=torch.float64)) for _ in range(2))
    a = as_torch(AdamW(0.9, 0.95, 1e-8), [ours], rate=1e-2, decay=0.1)
    b = torch.optim.AdamW([theirs], lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    for _ in range(20):
        ours.grad = torch.randn(7, 3, dtype=torch.float64)
        theirs.grad = ours.grad.clone()
        a.step()
        b.step()
    assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-14)


def test_first_direction_is_the_sign_and_scale_of_the_gradient_does_not_matter() -> None:
    method, p = AdamW(eps=1e-30), torch.zeros(4, dtype=torch.float64)
    g = torch.tensor([3.0, -2.0, 0.5, -0.1], dtype=torch.float64)
    for scale in (1.0, 1e-6, 1e6):
        assert torch.allclose(method.direction(g * scale, p, method.init(p), 1, Rng((0,))), g.sign())


def test_knobs_out_of_range() -> None:
    for knobs in ({"beta1": 1.0}, {"beta2": -0.1}, {"eps": 0.0}):
        with pytest.raises(ValueError, match="must be"):
            AdamW(**knobs)
