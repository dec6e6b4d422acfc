from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from bloomery.nn.shards import begin, sharded


@dataclass(frozen=True)
class Zero:
    """Ranks hold parts of the optimizer's state, of the gradients too, or of all that and the parameters, through FSDP2.

    P230 Rajbhandari et al. 2020, ZeRO, arXiv 1910.02054
    Differs: parts are rows of every matrix, so that weights, gradients and state always lie cut between two steps; at stages 1 and 2 the
    weights are gathered once a step and kept until its last backward pass, where the paper gathers them after the update. Embedding, head
    and final norm are kept from the forward to the backward pass at stage 3 too, because losses read the head between the two. With an
    axis `data` beside it parts are copied (hybrid sharding), and gradients are summed over the copies.
    Costs: sent a rank, in units of the parameters times (n - 1) / n, for m micro-batches: 2 at stage 1, m + 1 at stage 2, and at stage 3
    3 m for the blocks and 2 m for the rest, or m + 1 in a pipeline.
    """

    stage: Literal[1, 2, 3] = 3  # what is cut: 1 the optimizer's state, 2 gradients too, 3 parameters too
    axes = ("data", "shard")
    exact = True

    def place(self, net: nn.Module, mesh: Any) -> nn.Module:
        """FSDP2, where something is cut by rows, or cut otherwise with masters of another type than the working weights."""
        other = mesh.sizes["tensor"] > 1 and mesh.precision != torch.float32
        return sharded(net, mesh, self.stage == 3) if mesh.sizes["shard"] > 1 or other else net

    def before(self, net: nn.Module, mesh: Any, number: int, of: int) -> None:
        """Say what FSDP2 does after this micro-batch: gradients are sent once a step at stage 1, weights stay gathered at 1 and 2."""
        if mesh.sizes["shard"] > 1:
            begin(net, mesh, number == of - 1, self.stage > 1, self.stage == 3)

    def unfit(self, cfg: Any, row: int, sizes: Mapping[str, int]) -> str:
        """Any model can be cut by rows."""
        return ""
