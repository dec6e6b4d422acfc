"""DiLoCo: the outer step against torch's SGD. Copies that step by themselves are tried in tests/train/test_local.py."""

from __future__ import annotations

import pytest
import torch

from bloomery.methods.parallel.diloco import Diloco, outer


def test_the_outer_step_is_nesterov_momentum_of_torch() -> None:
    g = torch.Generator().manual_seed(0)
    p = torch.nn.Parameter(torch.randn(9, generator=g))
    theirs = torch.optim.SGD([p], lr=0.7, momentum=0.9, nesterov=True)
    ours, momentum = p.detach().clone(), torch.zeros(9)
    for _ in range(5):
        change = torch.randn(9, generator=g)
        p.grad = change.clone()
        theirs.step()
        outer(ours, change, momentum, 0.7, 0.9)
        torch.testing.assert_close(ours, p.detach())


def test_copies_are_the_same_after_an_outer_step_only() -> None:
    method = Diloco(every=5)
    assert [step for step in range(1, 16) if method.settled(step)] == [5, 10, 15] and not method.exact
    sizes = {"data": 4, "shard": 1, "tensor": 1}
    assert method.unfit(None, 16, sizes) == "" and "tensor divides it" in method.unfit(None, 16, {**sizes, "tensor": 2})
    for knobs in ({"every": 0}, {"rate": 0.0}, {"momentum": 1.0}):
        with pytest.raises(ValueError, match="must be"):
            Diloco(**knobs)
