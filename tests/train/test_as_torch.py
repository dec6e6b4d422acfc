"""A method in any PyTorch loop."""

from __future__ import annotations

import copy

import pytest
import torch

from bloomery.methods.optim.adamw import AdamW
from bloomery.train.as_torch import as_torch


def test_learns_and_its_state_can_be_saved_and_loaded() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 4)
    y = x @ torch.tensor([[1.0], [2.0], [3.0], [4.0]])

    def train(net, opt, steps):
        for _ in range(steps):
            opt.zero_grad()
            loss = ((net(x) - y) ** 2).mean()
            loss.backward()
            opt.step()
        return loss.item()

    net = torch.nn.Linear(4, 1)
    opt = as_torch(AdamW(), net.parameters(), rate=0.1)
    assert isinstance(opt, torch.optim.Optimizer)
    train(net, opt, 30)
    twin = torch.nn.Linear(4, 1)
    twin.load_state_dict(net.state_dict())
    other = as_torch(AdamW(), twin.parameters(), rate=0.1)
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    assert train(net, opt, 100) == train(twin, other, 100) < 0.05


def test_groups_override_the_rate() -> None:
    a, b = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    opt = as_torch(AdamW(), [{"params": [a]}, {"params": [b], "lr": 0.0}], rate=0.1)
    a.grad = b.grad = torch.ones(2)
    opt.step()
    assert torch.allclose(a, torch.full((2,), 0.9)) and bool((b == 1).all())
    assert [group["lr"] for group in opt.param_groups] == [0.1, 0.0]
    with pytest.raises(ValueError, match="negative"):
        as_torch(AdamW(), [a], rate=-1.0)
