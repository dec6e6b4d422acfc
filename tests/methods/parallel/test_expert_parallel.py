"""Experts on several ranks. Two ranks are compared with one process in tests/train/test_mesh.py."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from bloomery.methods.parallel.expert_parallel import ExpertParallel, exchanged
from bloomery.nn.config import Config
from bloomery.nn.feedforward import FeedForward
from bloomery.nn.mixture import dispatch


@pytest.mark.parametrize(
    ("experts", "n", "said"),
    [(4, 2, ""), (4, 3, "expert 3 does not divide 4 experts"), (0, 2, "expert divides experts, and this model has none")],
)
def test_experts_must_divide(experts: int, n: int, said: str) -> None:
    more = {"experts": experts, "top": 2, "architecture": "mixtral"} if experts else {}
    assert ExpertParallel().unfit(Config(50, 16, 2, 4, 2, 24, 16, **more), 16, {"expert": n}) == said


def test_an_exchange_with_oneself_is_a_dispatch(tmp_path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        torch.manual_seed(0)
        experts = [FeedForward(Config(50, 8, 1, 2, 1, 12, 16)) for _ in range(3)]
        weight, chosen = torch.rand(7, 2), torch.tensor([[0, 2]] * 6 + [[2, 0]])  # nobody goes to the second
        found = []
        for how in (dispatch, lambda *given: exchanged(*given, group=dist.group.WORLD)):
            x = torch.linspace(-1, 1, 56).view(7, 8).requires_grad_()
            for expert in experts:
                expert.zero_grad()
            out = how(x, weight, chosen, experts)
            out.square().sum().backward()
            found.append([out, x.grad, *(p.grad.clone() for expert in experts for p in expert.parameters())])
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*found, strict=True))
    finally:
        dist.destroy_process_group()
