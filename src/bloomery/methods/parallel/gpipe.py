from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from bloomery.nn.pipeline import Pipe, unstaged


@dataclass(frozen=True)
class Gpipe:
    """Each rank has a run of blocks; all micro-batches go forward through them, then all backward.

    P016 Huang et al. 2018, GPipe, arXiv 1811.06965
    Differs: stages are as even in blocks as can be, where the paper evens out an estimate of their cost; gradients are of the whole
    batch's mean, whatever micro-batches weigh. The schedule is torch's.
    Costs: sent a rank: what leaves its blocks, and its gradient back. Idle: p - 1 of m + p - 1 turns for p ranks and m micro-batches. With
    `again` a third more work for activations of one stage and micro-batch, beside what enters the stage for each of the m.
    """

    again: bool = True  # keep what enters a stage alone, and compute the stage again in the backward pass
    axes = ("pipeline",)
    exact = True

    def place(self, net: nn.Module, mesh: Any) -> nn.Module:
        """Leave this rank's run of blocks."""
        if (size := mesh.sizes["pipeline"]) > 1:
            mesh.pipe = Pipe(net, mesh, range(size), schedule, self.again)
        return net

    def unfit(self, cfg: Any, row: int, sizes: Mapping[str, int]) -> str:
        """Blocks must be at least as many as ranks, and lie one after the other."""
        if self.again and sizes["shard"] > 1:
            return "gpipe computes stages again, for which shard would gather them once more; `again: false` goes with shard"
        return unstaged(cfg, sizes["pipeline"], sizes)


def schedule(stages: Sequence[Any], micros: int, loss: Any) -> Any:
    """Of one stage a rank."""
    from torch.distributed.pipelining import ScheduleGPipe

    return ScheduleGPipe(stages[0], micros, loss_fn=loss, scale_grads=False)
