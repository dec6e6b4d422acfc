"""Exact accumulation and clipping."""

from __future__ import annotations

import pytest
import torch

from bloomery.methods.backward.autograd import Autograd
from bloomery.seams import Rng


def test_micro_batches_add_up_to_the_whole() -> None:
    torch.manual_seed(0)
    net, x = torch.nn.Linear(4, 3).double(), torch.randn(12, 4, dtype=torch.float64)

    def value(net, part):
        return (net(part) ** 2).sum() / 12

    whole = Autograd().backward(net, [x], value, Rng((0,)))
    gradient = net.weight.grad.clone()
    net.zero_grad()
    parts = Autograd().backward(net, list(x.split(5)), value, Rng((0,)))
    assert torch.allclose(net.weight.grad, gradient, rtol=1e-13) and whole["loss"] == pytest.approx(parts["loss"], rel=1e-13)


def test_clips_the_joint_norm_and_keeps_the_direction() -> None:
    grads = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]
    assert Autograd(clip=1.0).transform(grads)["grad_norm"] == pytest.approx(5.0)
    assert torch.allclose(grads[0], torch.tensor([0.6, 0.0])) and torch.allclose(grads[1], torch.tensor([[0.8]]))
    assert Autograd(clip=1.0).transform(grads)["grad_norm"] == pytest.approx(1.0)
    before = grads[0].clone()
    Autograd(clip=0.0).transform(grads)
    assert torch.equal(grads[0], before)
    with pytest.raises(ValueError, match="negative"):
        Autograd(clip=-1)
