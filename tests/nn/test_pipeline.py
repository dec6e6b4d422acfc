"""Stages of a model. Its numbers are compared with one process in tests/train/test_mesh.py."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from bloomery.nn.config import Config
from bloomery.nn.empty import Elsewhere
from bloomery.nn.model import Transformer
from bloomery.nn.pipeline import Ended, Pipe, runs, unstaged
from bloomery.seams import Batch, Rng

PLAIN = {"pipeline": 2}


@given(st.integers(1, 40), st.integers(1, 12))
def test_every_block_has_one_stage_and_stages_are_even(layers: int, stages: int) -> None:
    found = runs(layers, stages)
    assert [layer for run in found for layer in run] == list(range(layers)) and len(found) == stages
    assert max(map(len, found)) - min(map(len, found)) <= 1


@pytest.mark.parametrize(
    ("more", "stages", "said"),
    [
        ({}, 2, ""),
        ({}, 4, "pipeline 2 makes 4 stages of 2 layers"),
        ({"positions": "relative"}, 2, "pipeline cuts a model between its blocks, and this one has relative positions"),
        ({"causal": False}, 2, "pipeline cuts a model between its blocks, and this one has attention in both directions"),
    ],
)
def test_what_cannot_be_staged_is_said(more: dict, stages: int, said: str) -> None:
    assert unstaged(Config(50, 16, 2, 4, 2, 24, 16, **more), stages, PLAIN) == said


@pytest.fixture
def alone(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Lone:
    """What a pipe asks of a mesh, where one process has every stage, or those of one place of two."""

    precision = torch.float32

    def __init__(self, place: int = 0) -> None:
        self.place, self.homes, self.shapes, self.device_mesh = {"pipeline": place}, {}, {}, self

    def get_group(self, axis: str):
        return dist.group.WORLD


def batch(rows: int = 2) -> Batch:
    ids = torch.arange(rows * 8).view(rows, 8) % 50
    return Batch(ids, ids.roll(-1, 1), torch.ones(rows, 8), torch.arange(8).expand(rows, 8), torch.zeros(rows, 8, dtype=torch.int64))


def value(net, micro: Batch) -> torch.Tensor:
    return (net(micro.inputs, micro.positions, micro.documents) @ net.head_weight.T).logsumexp(-1).sum()


def schedule(stages, micros, loss):
    from torch.distributed.pipelining.schedules import ScheduleLoopedBFS

    return ScheduleLoopedBFS(stages, micros, loss_fn=loss, scale_grads=False)


@pytest.mark.parametrize("again", [False, True])
def test_stages_of_one_process_have_the_gradients_of_the_whole_model(alone, again: bool) -> None:
    cfg, micros = Config(50, 16, 4, 4, 2, 24, 16, windows=(3, 0)), [batch(), batch(), batch()]
    whole, net, mesh = Transformer(cfg, Rng((0, "init"))), Transformer(cfg, Rng((0, "init"))), Lone()
    losses = [value(whole, micro) for micro in micros]
    sum(losses).backward()
    pipe, begun = Pipe(net, mesh, [0, 0], schedule, again), []
    value.begin = begun.append
    assert pipe.ends and pipe.run(micros, value) == pytest.approx(float(sum(losses)), rel=1e-6)
    assert sorted(begun) == sorted([0, 1, 2] * 4)  # of both stages, forward and backward
    for (name, p), other in zip(whole.named_parameters(), net.parameters(), strict=True):
        assert torch.allclose(p.grad, other.grad, atol=1e-6), name
    micro = micros[0]
    assert torch.equal(net(micro.inputs, micro.positions, micro.documents), whole(micro.inputs, micro.positions, micro.documents))
    assert torch.equal(net(micro.inputs), whole(micro.inputs))


def test_what_lies_elsewhere_is_gone_and_names_stay(alone) -> None:
    net, mesh = Transformer(Config(50, 16, 4, 4, 2, 24, 16, tied=False), Rng((0, "init"))), Lone(1)
    names = mesh.shapes = {name: p.shape for name, p in net.named_parameters()}
    pipe = Pipe(net, mesh, [0, 1], schedule)
    assert isinstance(net.embed, Elsewhere) and isinstance(net.blocks[1], Elsewhere) and not isinstance(net.blocks[2], Elsewhere)
    assert {name for name, home in mesh.homes.items() if home == {"pipeline": 1}} == {name for name, _ in net.named_parameters()}
    assert set(mesh.homes) == set(names) and pipe.ends
    with pytest.raises(RuntimeError, match="lies on another rank"):
        net.embed(torch.zeros(1, 1))


@pytest.mark.parametrize(("place", "tied"), [(0, "embed.weight"), (1, ""), (2, "embed.weight")])
def test_both_ends_have_a_tied_head(alone, place: int, tied: str) -> None:
    net, mesh = Transformer(Config(50, 16, 3, 4, 2, 24, 16), Rng((0, "init"))), Lone(place)
    pipe = Pipe(net, mesh, [0, 1, 2], schedule)
    assert pipe.tied == tied and pipe.other == (2 if place == 0 else 0)
    assert ("embed.weight" in dict(net.named_parameters())) == bool(tied)


def test_a_model_that_has_ended_gives_what_is_there() -> None:
    net = Transformer(Config(50, 16, 1, 4, 2, 24, 16), Rng((0, "init")))
    hidden = torch.randn(1, 2, 16)
    ended = Ended(net, hidden)
    assert ended(torch.zeros(1, 2)) is hidden and ended.head_weight is net.head_weight and getattr(ended, "softmax_gradient", 1) == 1
