from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from bloomery.nn.pipeline import Pipe, unstaged


@dataclass(frozen=True)
class InterleavedPipeline:
    """Each rank has several short runs of blocks that lie apart, so that it waits less for the first micro-batch to come through.

    P009 Narayanan et al. 2021, Megatron-LM, arXiv 2104.04473
    Differs: micro-batches need not be a multiple of the ranks, only of the rounds that torch's schedule makes of them; those that are not
    go all forward, then all backward. Composing with tensor and data parallelism is the mesh's.
    Costs: sent a rank: what leaves its blocks, and its gradient back, `stages` times as much as with one run. Idle: (p - 1) / `stages` for
    every m turns of p ranks and m micro-batches.
    """

    stages: int = 2  # runs of blocks a rank
    axes = ("pipeline",)
    exact = True

    def __post_init__(self) -> None:
        if self.stages < 1:
            raise ValueError(f"stages must be at least 1, got {self.stages}")

    def place(self, net: nn.Module, mesh: Any) -> nn.Module:
        """Leave this rank's runs of blocks: of n ranks every n-th run."""
        if (size := mesh.sizes["pipeline"]) > 1:
            mesh.pipe = Pipe(net, mesh, [*range(size)] * self.stages, schedule)
        return net

    def unfit(self, cfg: Any, row: int, sizes: Mapping[str, int]) -> str:
        """Blocks must be at least as many as runs, and lie one after the other; FSDP2 knows of one run a rank."""
        if sizes["shard"] > 1:
            return "interleaved_pipeline has several runs of blocks a rank, which shard does not tell apart; one_f_one_b goes with shard"
        return unstaged(cfg, sizes["pipeline"] * self.stages, sizes)


def schedule(stages: Sequence[Any], micros: int, loss: Any) -> Any:
    """Of several stages a rank."""
    from torch.distributed.pipelining import ScheduleInterleaved1F1B
    from torch.distributed.pipelining.schedules import ScheduleLoopedBFS

    rounds = max(1, micros // stages[0].group_size)
    made = ScheduleLoopedBFS if micros % rounds else ScheduleInterleaved1F1B
    return made(list(stages), micros, loss_fn=loss, scale_grads=False)
