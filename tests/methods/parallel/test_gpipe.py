"""GPipe: its schedule is all forward, then all backward. Its numbers are compared in tests/train/test_mesh.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bloomery.lab.turns import Stage, idle, loss
from bloomery.methods.parallel.gpipe import Gpipe, schedule
from bloomery.nn.config import Config

CFG = Config(50, 16, 2, 4, 2, 24, 16)


def test_stages_that_are_computed_again_are_not_sharded() -> None:
    assert Gpipe().unfit(CFG, 16, {"pipeline": 2, "shard": 1}) == ""
    assert "`again: false` goes with shard" in Gpipe().unfit(CFG, 16, {"pipeline": 2, "shard": 2})
    assert Gpipe(again=False).unfit(CFG, 16, {"pipeline": 2, "shard": 2}) == ""
    assert "makes 3 stages of 2 layers" in Gpipe().unfit(CFG, 16, {"pipeline": 3, "shard": 1})


def test_one_rank_has_the_whole_model() -> None:
    net, mesh = object(), SimpleNamespace(sizes={"pipeline": 1}, pipe=None)
    assert Gpipe().place(net, mesh) is net and mesh.pipe is None


@pytest.mark.parametrize(("ranks", "micros"), [(2, 1), (2, 4), (4, 6)])
def test_ranks_wait_as_the_paper_says(ranks: int, micros: int) -> None:
    """(p - 1) / (m + p - 1) of the whole time."""
    wait = idle(schedule([Stage(0, ranks, ranks)], micros, loss).pipeline_order, ranks, {"F": 1.0, "B": 2.0})
    assert wait / (1 + wait) == pytest.approx((ranks - 1) / (micros + ranks - 1))
