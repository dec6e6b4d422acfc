from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from bloomery.nn.pipeline import Pipe, unstaged


@dataclass(frozen=True)
class OneFOneB:
    """Each rank has a run of blocks; it goes back through a micro-batch as soon as it can, then forward through the next (1F1B).

    Narayanan et al. 2020, PipeDream-Flush, arXiv 2006.09503
    Differs: the paper's other schedule keeps two versions of the weights; here all micro-batches of a step see the same. A step of fewer
    micro-batches than stages goes all forward, then all backward. The schedule is torch's.
    Costs: sent a rank: what leaves its blocks, and its gradient back. Idle as GPipe; activations of at most as many micro-batches as ranks.
    """

    axes = ("pipeline",)
    exact = True

    def place(self, net: nn.Module, mesh: Any) -> nn.Module:
        """Leave this rank's run of blocks."""
        if (size := mesh.sizes["pipeline"]) > 1:
            mesh.pipe = Pipe(net, mesh, range(size), schedule)
        return net

    def unfit(self, cfg: Any, row: int, sizes: Mapping[str, int]) -> str:
        """Blocks must be at least as many as ranks, and lie one after the other."""
        return unstaged(cfg, sizes["pipeline"], sizes)


def schedule(stages: Sequence[Any], micros: int, loss: Any) -> Any:
    """Of one stage a rank."""
    from torch.distributed.pipelining import Schedule1F1B, ScheduleGPipe

    (stage,) = stages
    made = Schedule1F1B if micros >= stage.num_stages else ScheduleGPipe
    return made(stage, micros, loss_fn=loss, scale_grads=False)
