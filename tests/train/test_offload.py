"""States on the host or on a disk: the numbers of the plain driver bit for bit, and memory that the disk spares."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from test_sharded import Toy, loss_of
from torch import nn

from bloomery.core import catalog
from bloomery.methods.optim.adamw import AdamW
from bloomery.seams import Rng
from bloomery.train import optimizer
from bloomery.train.offload import OffloadedOptimizer, Shelf
from bloomery.train.optimizer import Optimizer

HOMES = ["zero_offload", "zero_infinity", {"deep_optimizer_states": {"piece": 100, "every": 2}}]


def run(make, dtype: torch.dtype) -> Optimizer:
    """Six steps of the toy."""
    net = Toy()
    mover = make(net, dtype)
    for step in range(6):
        if dtype == torch.float32:
            loss_of(net, step, slice(None)).backward()
        else:
            fake(net, step)
        mover.collect()
        mover.step(1e-2, step + 1)
    return mover


def fake(net: nn.Module, step: int) -> None:
    """Gradients of some size in the type of the weights."""
    g = torch.Generator().manual_seed(step)
    for p in net.parameters():
        p.grad = torch.randn(p.shape, generator=g).to(p.dtype)


@pytest.mark.parametrize("home", HOMES, ids=str)
@pytest.mark.parametrize("method", ["adamw", "muon", {"galore": {"rank": 3, "gap": 3, "alpha": 1.0}}, "lion"], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_numbers_are_those_of_the_plain_driver(home, method, dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer, "CHUNK", 64)  # so that there are several pieces
    built, rest = catalog.build_method("optim", method), AdamW()
    plain = run(lambda net, dtype: Optimizer(net, built, Rng((0,)), 0.1, dtype, rest), dtype)
    where = catalog.build_method("parallel", home)
    moved = run(lambda net, dtype: OffloadedOptimizer(net, built, Rng((0,)), 0.1, dtype, rest, home=where, folder=tmp_path), dtype)
    wanted, found = plain.tensors(), moved.tensors()
    assert wanted.keys() == found.keys() and all(torch.equal(wanted[name], found[name]) for name in wanted)
    assert torch.equal(plain.work, moved.work) and plain.work.abs().sum() > 0
    masters = 0 if dtype == torch.float32 else 4 * len(plain.master)
    assert moved.places() == {"disk" if home == "zero_infinity" else "host": moved.state_bytes() + masters}


def test_a_checkpoint_of_one_is_one_of_the_other(tmp_path: Path) -> None:
    where = catalog.build_method("parallel", "zero_infinity")
    moved = run(lambda net, d: OffloadedOptimizer(net, AdamW(), Rng((0,)), 0.1, d, None, home=where, folder=tmp_path / "a"), torch.float32)
    plain = Optimizer(Toy(), AdamW(), Rng((0,)), 0.1)
    plain.load({name: t.clone() for name, t in moved.tensors().items()})
    again = OffloadedOptimizer(Toy(), AdamW(), Rng((0,)), 0.1, home=where, folder=tmp_path / "b")
    again.load({name: t.clone() for name, t in plain.tensors().items()})
    for one in (plain, again):
        fake(one.net, 9)
        one.collect()
        one.step(1e-2, 7)
    assert all(torch.equal(t, again.tensors()[name]) for name, t in plain.tensors().items())


@pytest.mark.skipif(sys.platform != "linux", reason="resident pages of a file are read from /proc")
def test_the_disk_holds_what_memory_does_not(tmp_path: Path) -> None:
    """4.2 M parameters have 34 MB of states: between two steps nothing of them is in the process, within one a few pieces."""
    net, most = nn.Linear(2048, 2048, bias=False), []
    moved = OffloadedOptimizer(net, AdamW(), Rng((0,)), home=catalog.build_method("parallel", "zero_infinity"), folder=tmp_path)
    assert moved.state_bytes() == 2 * 4 * 2048 * 2048 == sum(file.stat().st_size for file in tmp_path.iterdir())
    assert moved.shelf.resident() == 0
    plain = moved._advance

    def watched(*given) -> None:
        plain(*given)
        most.append(moved.shelf.resident())

    moved._advance = watched
    net.weight.grad = torch.ones_like(net.weight)
    moved.collect()
    moved.step(1e-2, 1)
    assert len(most) == 16 and max(most) <= 4 * 4 * optimizer.CHUNK and moved.shelf.resident() == 0
    assert float(moved.states[""]["m"].min()) > 0


def test_a_shelf_gives_back_what_was_put(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    for name, t in {"a": torch.randn(5000), "b": torch.arange(7), "empty": torch.zeros(0), "scalar": torch.tensor(3.0)}.items():
        there = shelf.put(name, t)
        assert torch.equal(there, t)
        there.add_(1)
        shelf.drop(name)
        assert torch.equal(there, t + 1)
