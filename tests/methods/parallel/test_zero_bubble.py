"""Zero bubble: passes by weights stand where a rank would wait. Its numbers are compared in tests/train/test_mesh.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bloomery.lab.turns import Stage, idle, loss, passes
from bloomery.methods.parallel.zero_bubble import ZeroBubble, schedule
from bloomery.nn.config import Config


@pytest.mark.parametrize(("order", "own"), [("v", (0, 3)), ("interleaved", (0, 2))])
def test_every_micro_batch_has_three_passes_through_each_stage(order: str, own: tuple[int, int]) -> None:
    found = passes(made(order, 2, 4, own).pipeline_order[0])
    assert sorted(found) == sorted((stage, kind, micro) for stage in own for kind in "FIW" for micro in range(4))


@pytest.mark.parametrize("micros", [4, 8])
def test_ranks_wait_less_than_with_whole_backward_passes(micros: int) -> None:
    """Where the three passes take equally long: (p - 1) / m of their work without interleaving, (p - 1) / (2 m) with it."""
    for order, own in (("v", (0, 7)), ("interleaved", (0, 4))):
        assert idle(made(order, 4, micros, own).pipeline_order, 8, dict.fromkeys("FIW", 1.0)) < (4 - 1) / (2 * micros)


def made(order: str, ranks: int, micros: int, own: tuple[int, int]):
    stages = [Stage(one, 2 * ranks, ranks) for one in own]
    for one in stages:
        one.submod = SimpleNamespace(modules=list)
    return schedule(stages, micros, loss, order)


def test_passes_in_two_parts_are_not_sharded() -> None:
    cfg = Config(50, 16, 4, 4, 2, 24, 16)
    assert ZeroBubble().unfit(cfg, 16, {"pipeline": 2, "shard": 1}) == ""
    assert "one_f_one_b goes with shard" in ZeroBubble().unfit(cfg, 16, {"pipeline": 2, "shard": 2})
    assert "makes 6 stages of 4 layers" in ZeroBubble().unfit(cfg, 16, {"pipeline": 3, "shard": 1})
