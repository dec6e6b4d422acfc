"""Interleaved runs of blocks: which schedule a step gets, and how much shorter ranks wait. Numbers: tests/train/test_mesh.py."""

from __future__ import annotations

import pytest
from torch.distributed.pipelining import ScheduleInterleaved1F1B
from torch.distributed.pipelining.schedules import ScheduleLoopedBFS

from bloomery.lab.turns import Stage, idle, loss
from bloomery.methods.parallel.interleaved_pipeline import InterleavedPipeline, schedule
from bloomery.nn.config import Config


@pytest.mark.parametrize(("micros", "kind"), [(2, ScheduleInterleaved1F1B), (4, ScheduleInterleaved1F1B), (5, ScheduleLoopedBFS)])
def test_micro_batches_that_make_no_rounds_go_all_forward_first(micros: int, kind: type) -> None:
    assert type(schedule([Stage(0, 4, 2), Stage(2, 4, 2)], micros, loss)) is kind


@pytest.mark.parametrize(("ranks", "each", "micros"), [(2, 1, 4), (2, 2, 4), (4, 2, 8), (4, 3, 4)])
def test_ranks_wait_the_less_the_more_runs_they_have(ranks: int, each: int, micros: int) -> None:
    """(p - 1) / (v m) of their work, for v runs."""
    stages = [Stage(ranks * i, ranks * each, ranks) for i in range(each)]
    order = schedule(stages, micros, loss).pipeline_order
    assert idle(order, ranks * each, {"F": 1.0, "B": 2.0}) == pytest.approx((ranks - 1) / (each * micros))


def test_several_runs_are_not_sharded() -> None:
    cfg = Config(50, 16, 4, 4, 2, 24, 16)
    assert InterleavedPipeline().unfit(cfg, 16, {"pipeline": 2, "shard": 1}) == ""
    assert "one_f_one_b goes with shard" in InterleavedPipeline().unfit(cfg, 16, {"pipeline": 2, "shard": 2})
    assert "makes 6 stages of 4 layers" in InterleavedPipeline(stages=3).unfit(cfg, 16, {"pipeline": 2, "shard": 1})
    with pytest.raises(ValueError, match="stages must be at least 1"):
        InterleavedPipeline(stages=0)
