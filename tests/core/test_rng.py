"""Generators from keys."""

from __future__ import annotations

import torch

from bloomery.core.rng import digest, numpy_rng, python_rng, torch_rng
from bloomery.seams import Rng


def test_the_same_key_gives_the_same_numbers():
    key = Rng((0, "a")).child("step", 3)
    assert key == Rng((0, "a", "step", 3))
    assert python_rng(key).random() == python_rng(key).random()
    assert (numpy_rng(key).random(5) == numpy_rng(key).random(5)).all()
    assert torch.equal(torch.randn(5, generator=torch_rng(key)), torch.randn(5, generator=torch_rng(key)))


def test_every_part_of_a_key_matters():
    keys = [Rng((0,)), Rng((1,)), Rng(("0",)), Rng((0, 0)), Rng((0, "a")), Rng(("a", 0)), Rng(("a0",))]
    assert len({digest(key) for key in keys}) == len(keys)
    assert len({float(numpy_rng(key).random()) for key in keys}) == len(keys)
