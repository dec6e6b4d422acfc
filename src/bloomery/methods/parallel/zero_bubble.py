from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch import nn

from bloomery.nn.pipeline import Pipe, unstaged


@dataclass(frozen=True)
class ZeroBubble:
    """Backward passes are cut in two, by inputs and by weights: the latter nobody waits for, so they fill the time in which a rank waits.

    Qi et al. 2023, Zero Bubble Pipeline Parallelism, arXiv 2401.10241
    Differs: the two schedules that torch has, ZB-V and ZB-1P over interleaved runs; the paper's automatic schedule, which measures the
    passes, is not there, nor its update that validates afterwards: the norm of the gradients is known before any weight moves.
    Costs: sent a rank: what leaves its two runs of blocks, and its gradient back. Activations are kept until the pass by weights. Nothing
    is idle where the three passes take equally long.
    """

    order: Literal["v", "interleaved"] = "v"  # v: the last run of blocks lies with the first
    axes = ("pipeline",)
    exact = True
    eager = True

    def place(self, net: nn.Module, mesh: Any) -> nn.Module:
        """Leave this rank's two runs of blocks."""
        if (size := mesh.sizes["pipeline"]) > 1:
            back = reversed(range(size)) if self.order == "v" else range(size)
            mesh.pipe = Pipe(net, mesh, [*range(size), *back], partial(schedule, order=self.order))
        return net

    def unfit(self, cfg: Any, row: int, sizes: Mapping[str, int]) -> str:
        """Blocks must be at least as many as runs, and lie one after the other; FSDP2 needs backward passes in one piece."""
        if sizes["shard"] > 1:
            return "zero_bubble cuts backward passes in two, which shard cannot follow; one_f_one_b goes with shard"
        return unstaged(cfg, 2 * sizes["pipeline"], sizes)


def schedule(stages: Sequence[Any], micros: int, loss: Any, order: str) -> Any:
    """Of two stages a rank."""
    from torch.distributed.pipelining.schedules import ScheduleInterleavedZeroBubble, ScheduleLoopedBFS, ScheduleZBVZeroBubble

    rounds = max(1, micros // stages[0].group_size)
    made = ScheduleZBVZeroBubble if order == "v" else ScheduleLoopedBFS if micros % rounds else ScheduleInterleavedZeroBubble
    return made(list(stages), micros, loss_fn=loss, scale_grads=False)
