"""How long the ranks of a pipeline take over an order of passes, where sending takes no time, and what they keep: schedules are asked for
their orders, and no process is started."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Pass = tuple[int, str, int]  # stage, kind, micro-batch; F forward, B backward, I and W its halves by inputs and by weights


class Stage:
    """As much of a stage as a schedule asks for before its first step."""

    def __init__(self, index: int, stages: int, ranks: int) -> None:
        self.stage_index, self.num_stages, self.group_size, self.group_rank = index, stages, ranks, 0
        self.submod, self.has_backward, self.is_first, self.is_last = None, True, index == 0, index == stages - 1


class Recorder(Stage):
    """Writes down what a schedule makes a stage do; nothing is sent."""

    def __init__(self, index: int, stages: int) -> None:
        super().__init__(index, stages, stages)
        self.done: list[str] = []

    def forward_one_chunk(self, micro: int, *more: Any, **named: Any) -> None:
        self.done.append(f"{self.stage_index}F{micro}")

    def backward_one_chunk(self, micro: int, **named: Any) -> None:
        self.done.append(f"{self.stage_index}B{micro}")

    def perform_reduce_grad(self, factor: int) -> None:
        """Gradients are not scaled here."""

    def get_fwd_recv_ops(self, micro: int) -> list:
        return []

    get_fwd_send_ops = get_bwd_recv_ops = get_bwd_send_ops = get_fwd_recv_ops


def recorded(schedule: Callable[..., Any], ranks: int, micros: int) -> dict[int, list[Pass]]:
    """What each of the ranks with one stage does, in order, as it is run: torch's drawing of 1F1B leaves out a pass of the last stage."""
    found = {}
    for rank in range(ranks):
        recorder = Recorder(rank, ranks)
        made = schedule([recorder], micros, None)
        made._stage_forward_initialized = True
        made._step_microbatches()
        found[rank] = passes(recorder.done)
    return found


def passes(actions: Sequence[Any]) -> list[Pass]:
    """The passes among the actions of a rank, in order."""
    found = (
        re.fullmatch(r"(\d+)([FBIW])(\d+)", action if isinstance(action, str) else repr(action)) for action in actions if action is not None
    )
    return [(int(one[1]), one[2], int(one[3])) for one in found if one]


def idle(order: Mapping[int, Sequence[Any]], stages: int, last: Mapping[str, float]) -> float:
    """The longest time from begin to end, over that for which a rank works, less 1. `last` says how long a pass of each kind takes."""
    queues = {rank: list(actions) if type(actions[0]) is tuple else passes(actions) for rank, actions in order.items()}
    done, clock = {}, dict.fromkeys(order, 0.0)
    work = max(sum(last[kind] for _, kind, _ in queue) for queue in queues.values())
    while any(queues.values()):
        before = len(done)
        for rank, queue in queues.items():
            while queue:
                stage, kind, micro = queue[0]
                needs = [(stage - 1, "F", micro)] if kind == "F" else [(stage, "I" if kind == "W" else "F", micro)]
                needs += [] if kind in "FW" else [(stage + 1, kind, micro)]
                needs = [one for one in needs if 0 <= one[0] < stages]
                if not all(one in done for one in needs):
                    break
                clock[rank] = done[queue.pop(0)] = max(clock[rank], *(done[one] for one in needs), 0.0) + last[kind]
        if len(done) == before:
            raise AssertionError("the ranks wait for each other")
    return max(clock.values()) / work - 1


def kept(done: Sequence[Pass]) -> list[int]:
    """After each pass of a rank the micro-batches that have gone forward and not yet back."""
    found = [0]
    for _, kind, _ in done:
        found.append(found[-1] + (1 if kind == "F" else -1))
    return found


def loss(hidden: Any, number: Any) -> Any:
    """Of a schedule that is never run on numbers."""
    return hidden
