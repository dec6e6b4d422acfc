from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn


@dataclass(frozen=True)
class Zero:
    """Ranks hold parts of the optimizer's state, of the gradients too, or of all that and the parameters, through FSDP2.

    P230 Rajbhandari et al. 2020, ZeRO, arXiv 1910.02054
    Differs: parts are rows of every matrix, so that weights, gradients and state always lie cut between two steps; at stages 1 and 2 the
    weights are gathered once a step and kept until its last backward pass, where the paper gathers them after the update. Embedding, head
    and final norm are kept from the forward to the backward pass at stage 3 too, because losses read the head between the two. With an
    axis `data` beside it parts are copied (hybrid sharding), and gradients are summed over the copies.
    Costs: sent a rank, in units of the parameters times (n - 1) / n, for m micro-batches: 2 at stage 1, m + 1 at stage 2, and at stage 3
    3 m for the blocks and 2 m for the rest.
    """

    stage: Literal[1, 2, 3] = 3  # what is cut: 1 the optimizer's state, 2 gradients too, 3 parameters too
    axes = ("data", "shard")
    exact = True

    def place(self, net: nn.Module, mesh: Any) -> nn.Module:
        """FSDP2 around every block and around the rest; gradients are sums, and float32 whatever the working weights are."""
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        if mesh.sizes["shard"] == 1:
            return net
        policy = MixedPrecisionPolicy()
        if mesh.precision != torch.float32:
            policy = MixedPrecisionPolicy(mesh.precision, torch.float32, cast_forward_inputs=False)
        copies = [axis for axis in ("data", "context") if mesh.sizes[axis] > 1]
        if len(copies) == 2:
            mesh.device_mesh["data", "context"]._flatten("copies")
            copies = ["copies"]
        over = mesh.device_mesh[(*copies, "shard")]
        stacks = [part.blocks for part in (getattr(net, "encoder", None), net) if part is not None]
        for block in (block for stack in stacks for block in stack):
            fully_shard(block, mesh=over, mp_policy=policy, reshard_after_forward=self.stage == 3)
        fully_shard(net, mesh=over, mp_policy=policy, reshard_after_forward=False)
        for unit in net.modules():
            if hasattr(unit, "set_gradient_divide_factor"):
                unit.set_gradient_divide_factor(1.0)
                unit.set_force_sum_reduction_for_comms(True)
        net.set_reduce_scatter_unused_params(True)
        return net

    def before(self, net: nn.Module, mesh: Any, number: int, of: int) -> None:
        """Say what FSDP2 does after this micro-batch: gradients are sent once a step at stage 1, weights stay gathered at 1 and 2."""
        if mesh.sizes["shard"] == 1:
            return
        last = number == of - 1
        net.set_requires_gradient_sync(last or self.stage > 1)
        net.set_requires_all_reduce(last)
        net.set_reshard_after_backward(last or self.stage == 3)

    def unfit(self, cfg: Any, row: int, sizes: Mapping[str, int]) -> str:
        """Any model can be cut by rows."""
        return ""
