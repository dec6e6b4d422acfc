"""A window of blocks: losses, gradients and weights of the model that is in memory whole, bit for bit, and memory that the disk spares."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bloomery.methods.adapter.lora import Lora
from bloomery.methods.optim.adamw import AdamW
from bloomery.methods.optim.muon import Muon
from bloomery.methods.parallel.superpipeline import Superpipeline
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.rewrite.adapters import attach
from bloomery.seams import Rng
from bloomery.train.offload import OffloadedOptimizer
from bloomery.train.optimizer import Optimizer
from bloomery.train.window import Window, layer

LAYERS = 6


def model(width: int = 16, adapted: bool = False) -> Transformer:
    net = Transformer(Config(50, width, LAYERS, 2, 2, 2 * width, 16), Rng((0, "init")))
    if adapted:
        attach(net, Lora(rank=2), Rng((0, "adapter")))
    return net


def passes(net: Transformer, step: int) -> Tensor:
    """Forward and backward through some tokens."""
    ids = torch.arange(step, step + 24).view(2, 12) % 50
    loss = net.logits(net(ids)).float().logsumexp(-1).mean()
    loss.backward()
    return loss.detach()


def steps(net: Transformer, mover: Optimizer) -> list[Tensor]:
    """Losses and gradients of four steps of two micro-batches each, and a pass without gradients after each."""
    found = []
    for step in range(4):
        found += [passes(net, step), passes(net, step + 9)]
        found += [g.clone() for g in mover.collect()]
        mover.step(1e-2, step + 1)
        with torch.no_grad():
            found.append(net(torch.arange(12)[None]).clone())
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("method", "adapted"), [(AdamW(), False), (Muon(), False), (AdamW(), True)], ids=str)
def test_numbers_are_those_of_a_model_in_memory(method, adapted: bool, dtype: torch.dtype, tmp_path: Path) -> None:
    plain, net = model(adapted=adapted), model(adapted=adapted)
    alone = Optimizer(plain, method, Rng((0,)), 0.1, dtype, AdamW())
    moved = OffloadedOptimizer(net, method, Rng((0,)), 0.1, dtype, AdamW(), home=Superpipeline(2, 1), folder=tmp_path)
    for one in (alone, moved):
        one.stream()
    for one, other in zip(steps(plain, alone), steps(net, moved), strict=True):
        assert torch.equal(one, other)
    assert moved.window.most == 2 and all(torch.equal(t, moved.tensors()[name]) for name, t in alone.tensors().items())


class Kept:
    """A shelf that says what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple] = []

    def drop(self, *range_) -> None:
        self.told.append(("drop", *range_))

    def read_ahead(self, *range_) -> None:
        self.told.append(("ahead", *range_))


@pytest.mark.parametrize(("held", "together", "reads"), [(1, 1, 5 + 5), (2, 1, 5 + 3), (3, 2, 5 + 2), (4, 1, 5 + 1), (5, 1, 5)])
def test_the_blocks_that_the_backward_pass_begins_with_are_still_there(held: int, together: int, reads: int) -> None:
    """Forward all come once; backward those that have left."""
    blocks, shelf = [nn.Linear(2, 2) for _ in range(5)], Kept()
    window = Window(blocks, [[("w", 4 * i, 4 * i + 4)] for i in range(5)], shelf, held, together)
    x = torch.ones(1, 2, requires_grad=True)
    for block in blocks:
        x = block(x)
    assert window.reads == 5 and window.held[-1] == 4
    x.sum().backward()
    assert window.most <= held and window.last == 0
    assert window.reads == reads - (held == 1)  # the last block is computed twice in a row
    window.empty()
    assert window.held == [] and sum(one[0] == "drop" for one in shelf.told) == window.reads


@pytest.mark.skipif(sys.platform != "linux", reason="resident pages of a file are read from /proc")
def test_memory_holds_the_window_alone(tmp_path: Path) -> None:
    """Of six blocks of 0.65 MB two are there at a time; what the system maps around a page that is touched is less than another."""
    net, most = model(128), []
    moved = OffloadedOptimizer(net, AdamW(), Rng((0,)), home=Superpipeline(2, 1), folder=tmp_path)
    assert moved.shelf.resident() == 0
    for block in net.blocks:
        block.register_forward_hook(lambda *_: most.append(moved.shelf.resident()))
    passes(net, 0)
    most.append(moved.shelf.resident())
    each = 4 * sum(one.stop - one.start for one in moved.claims if layer(one.name) == 0)
    rest = 4 * sum(one.stop - one.start for one in moved.claims if layer(one.name) is None)
    assert each <= min(most) and max(most) <= 3 * each + rest and len(most) == LAYERS + 1
    moved.collect()
    moved.step(1e-2, 1)
    assert moved.shelf.resident() == 0 and moved.places() == {"disk": 3 * 4 * len(moved.master)}
