"""The fixture strikes as often and as hard as it says, the same way every time, and by its dotted path."""

from __future__ import annotations

import pytest
import torch

from bloomery.core import catalog
from bloomery.seams import Rng


def gradient(chance: float, step: int, clip: float = 0.0) -> tuple[torch.Tensor, dict[str, float]]:
    knobs = {"chance": chance, "share": 0.02, "factor": 1000.0, "inner": {"autograd": {"clip": clip}}}
    method = catalog.build_method("backward", {"bloomery.lab.spiked.Spiked": knobs})
    net = torch.nn.Linear(100, 50, bias=False)
    numbers = method.backward(net, [None], lambda net, _: net.weight.sum(), Rng((0, step)))
    numbers.update(method.transform([net.weight.grad]))
    return net.weight.grad, numbers


def test_a_share_of_the_numbers_is_multiplied_at_a_share_of_the_steps() -> None:
    found, numbers = gradient(1.0, 1)
    assert set(found.unique().tolist()) == {1.0, 1000.0}
    assert numbers["spiked"] == float((found == 1000).sum()) and 60 < numbers["spiked"] < 140
    assert torch.equal(found, gradient(1.0, 1)[0]) and not torch.equal(found, gradient(1.0, 2)[0])
    hit = sum(bool((gradient(0.25, step)[0] != 1).any()) for step in range(200))
    assert 25 < hit < 75


def test_without_a_chance_nothing_changes_and_the_inner_clip_sees_the_spikes() -> None:
    assert bool((gradient(0.0, 1)[0] == 1).all())
    clipped, numbers = gradient(1.0, 1, clip=1.0)
    assert float(clipped.norm()) == pytest.approx(1.0, rel=1e-5) and numbers["grad_norm"] > 1000
    with pytest.raises(Exception, match="chance"):
        gradient(2.0, 1)
