"""1F1B: which schedule a step gets, how long ranks wait, and what they keep. Its numbers are compared in tests/train/test_mesh.py."""

from __future__ import annotations

import pytest
from torch.distributed.pipelining import Schedule1F1B, ScheduleGPipe

from bloomery.lab.turns import Stage, idle, kept, loss, recorded
from bloomery.methods.parallel.one_f_one_b import OneFOneB, schedule
from bloomery.nn.config import Config

RANKS = 4


@pytest.mark.parametrize(("micros", "kind"), [(3, ScheduleGPipe), (4, Schedule1F1B), (9, Schedule1F1B)])
def test_too_few_micro_batches_go_all_forward_first(micros: int, kind: type) -> None:
    assert type(schedule([Stage(0, RANKS, RANKS)], micros, loss)) is kind


@pytest.mark.parametrize("micros", [4, 6, 9])
def test_ranks_wait_as_the_paper_says_and_keep_few_micro_batches(micros: int) -> None:
    """(p - 1) / m of their work, as GPipe; at most p micro-batches are kept, which GPipe is not bound by."""
    found = recorded(schedule, RANKS, micros)
    assert idle(found, RANKS, {"F": 1.0, "B": 2.0}) == pytest.approx((RANKS - 1) / micros)
    for rank, done in found.items():
        assert kept(done)[-1] == 0 and max(kept(done)) == min(micros, RANKS - rank)


def test_models_that_cannot_be_staged_are_refused() -> None:
    assert OneFOneB().unfit(Config(50, 16, 2, 4, 2, 24, 16), 16, {"pipeline": 2}) == ""
    assert "an encoder" in OneFOneB().unfit(Config(50, 16, 2, 4, 2, 24, 16, encoder_layers=2), 16, {"pipeline": 2})
