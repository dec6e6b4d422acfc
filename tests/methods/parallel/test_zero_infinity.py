"""ZeRO-Infinity: all on a disk. tests/train/test_offload.py compares its numbers, and measures its memory."""

from __future__ import annotations

import pytest
from torch import nn

from bloomery.methods.parallel.zero_infinity import ZeroInfinity


@pytest.mark.parametrize("numbers", [1, 7, 1 << 20])
def test_every_number_lies_on_the_disk(numbers: int) -> None:
    assert ZeroInfinity().pieces(numbers) == [(0, numbers, "disk", "host")]


def test_the_model_stays_as_it_is() -> None:
    net = nn.Linear(2, 2)
    assert ZeroInfinity().place(net, None) is net and ZeroInfinity().unfit(None, 0, {}) == "" and ZeroInfinity.exact
