"""1F1B: which schedule a step gets, how long ranks wait, and what they keep. Its numbers are compared in tests/train/test_mesh.py."""

from __future__ import annotations

import pytest
from torch.distributed.pipelining import Schedule1F1B, ScheduleGPipe
from turns import Stage, idle, loss, passes

from bloomery.methods.parallel.one_f_one_b import OneFOneB, schedule
from bloomery.nn.config import Config

RANKS = 4


@pytest.mark.parametrize(("micros", "kind"), [(3, ScheduleGPipe), (4, Schedule1F1B), (9, Schedule1F1B)])
def test_too_few_micro_batches_go_all_forward_first(micros: int, kind: type) -> None:
    assert type(schedule([Stage(0, RANKS, RANKS)], micros, loss)) is kind


class Recorder(Stage):
    """Writes down what a schedule makes a stage do; nothing is sent."""

    def __init__(self, index: int) -> None:
        super().__init__(index, RANKS, RANKS)
        self.done: list[str] = []

    def forward_one_chunk(self, micro: int, *more, **named) -> None:
        self.done.append(f"{self.stage_index}F{micro}")

    def backward_one_chunk(self, micro: int, **named) -> None:
        self.done.append(f"{self.stage_index}B{micro}")

    def perform_reduce_grad(self, factor: int) -> None:
        assert factor == 1

    def get_fwd_recv_ops(self, micro: int) -> list:
        return []

    get_fwd_send_ops = get_bwd_recv_ops = get_bwd_send_ops = get_fwd_recv_ops


def order(stage: int, micros: int) -> list[tuple[int, str, int]]:
    """What a rank does, in order: torch's drawing of it leaves out the last stage's first pass."""
    recorder = Recorder(stage)
    made = schedule([recorder], micros, None)
    made._stage_forward_initialized = True
    made._step_microbatches()
    return passes(recorder.done)


@pytest.mark.parametrize("micros", [4, 6, 9])
def test_ranks_wait_as_the_paper_says_and_keep_few_micro_batches(micros: int) -> None:
    """(p - 1) / m of their work, as GPipe; at most p micro-batches are kept, which GPipe is not bound by."""
    found = {rank: order(rank, micros) for rank in range(RANKS)}
    assert idle(found, RANKS, {"F": 1.0, "B": 2.0}) == pytest.approx((RANKS - 1) / micros)
    for rank, done in found.items():
        kept = [0]
        for _, kind, _ in done:
            kept.append(kept[-1] + (1 if kind == "F" else -1))
        assert kept[-1] == 0 and max(kept) == min(micros, RANKS - rank)


def test_models_that_cannot_be_staged_are_refused() -> None:
    assert OneFOneB().unfit(Config(50, 16, 2, 4, 2, 24, 16), 16, {"pipeline": 2}) == ""
    assert "an encoder" in OneFOneB().unfit(Config(50, 16, 2, 4, 2, 24, 16, encoder_layers=2), 16, {"pipeline": 2})
