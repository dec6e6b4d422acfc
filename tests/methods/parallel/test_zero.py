"""ZeRO: which stage says what to FSDP2. Its numbers and bytes are compared with one process and the paper in tests/train/test_mesh.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from torch import nn

from bloomery.methods.parallel.zero import Zero


class Told:
    """Notes what FSDP2 would be told."""

    def __init__(self) -> None:
        self.said: list[tuple[str, bool]] = []

    def set_requires_gradient_sync(self, on: bool) -> None:
        self.said.append(("send", on))

    def set_requires_all_reduce(self, on: bool) -> None:
        self.said.append(("copies", on))

    def set_reshard_after_backward(self, on: bool) -> None:
        self.said.append(("cut", on))


LAST, ALL = [False, False, True], [True, True, True]


@pytest.mark.parametrize(("stage", "send", "cut"), [(1, LAST, LAST), (2, ALL, LAST), (3, ALL, ALL)])
def test_stages_differ_in_when_gradients_are_sent_and_weights_let_go(stage: int, send: list, cut: list) -> None:
    net, mesh = Told(), SimpleNamespace(sizes={"data": 1, "shard": 2}, pipe=None)
    for number in range(3):
        Zero(stage=stage).before(net, mesh, number, 3)
    assert [on for what, on in net.said if what == "copies"] == LAST
    assert [on for what, on in net.said if what == "send"] == send and [on for what, on in net.said if what == "cut"] == cut


def test_copies_alone_are_left_as_they_are() -> None:
    net, mesh = nn.Linear(2, 2), SimpleNamespace(sizes={"data": 2, "shard": 1, "tensor": 1})
    assert Zero().place(net, mesh) is net and type(net) is nn.Linear
    Zero().before(net, mesh, 0, 1)
