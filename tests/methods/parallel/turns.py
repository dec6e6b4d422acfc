"""How long the ranks of a pipeline take over an order of passes, where sending takes no time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any


def passes(actions: Sequence[Any]) -> list[tuple[int, str, int]]:
    """(stage, kind, micro-batch) of a rank in order: F forward, B backward, I and W its halves by inputs and by weights."""
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


class Stage:
    """As much of a stage as a schedule asks for before its first step."""

    def __init__(self, index: int, stages: int, ranks: int) -> None:
        self.stage_index, self.num_stages, self.group_size, self.group_rank = index, stages, ranks, 0
        self.submod, self.has_backward, self.is_first, self.is_last = None, True, index == 0, index == stages - 1


def loss(hidden: Any, number: Any) -> Any:
    return hidden
