"""ZeRO-Offload: all on the host. tests/train/test_offload.py compares its numbers with those of the plain driver."""

from __future__ import annotations

import pytest
from torch import nn

from bloomery.methods.parallel.zero_offload import ZeroOffload


@pytest.mark.parametrize("numbers", [1, 7, 1 << 20])
def test_every_number_lies_on_the_host_and_is_updated_there(numbers: int) -> None:
    assert ZeroOffload().pieces(numbers) == [(0, numbers, "host", "host")]


def test_the_model_stays_as_it_is() -> None:
    net = nn.Linear(2, 2)
    assert ZeroOffload().place(net, None) is net and ZeroOffload().unfit(None, 0, {}) == "" and ZeroOffload.exact
