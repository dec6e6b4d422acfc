from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from bloomery.nn.shards import begin, sharded


@dataclass(frozen=True)
class ThreeLevelPartition:
    """Between its two passes a block's weights lie in parts over a few neighbours, so that the backward pass gathers over fast links.

    P397 Xu et al. 2025, arXiv 2501.04266
    Differs: the levels are the `inner` neighbours (weights between the passes), the axis `shard` (masters, gradients, optimizer state) and
    copies along `data`; the forward pass gathers over the whole of `shard`, where the paper keeps weights in the smallest group from step
    to step; nothing is quantised.
    Costs: sent a rank, in units of the blocks' parameters: (n - 1) / n for the forward pass and for the gradients of each micro-batch, and
    (inner - 1) / inner for its backward pass; between the passes n / inner times the weights that zero keeps.
    """

    inner: int = 2  # neighbours among which weights lie between the passes
    axes = ("data", "shard")
    exact = True

    def __post_init__(self) -> None:
        if self.inner < 2:
            raise ValueError(f"inner must be at least 2, got {self.inner}")

    def place(self, net: nn.Module, mesh: Any) -> nn.Module:
        """FSDP2, which cuts blocks again after the forward pass, over fewer ranks."""
        return sharded(net, mesh, self.inner) if mesh.sizes["shard"] > 1 else net

    def before(self, net: nn.Module, mesh: Any, number: int, of: int) -> None:
        """As zero at stage 3."""
        if mesh.sizes["shard"] > 1:
            begin(net, mesh, number == of - 1, True, True)

    def unfit(self, cfg: Any, row: int, sizes: Mapping[str, int]) -> str:
        """There must be more ranks than neighbours, and the latter must divide them; and they shard what all have, in one stage."""
        n = sizes["shard"]
        if n > 1 and (n % self.inner or n == self.inner):
            return f"three_level_partition keeps weights over {self.inner} of {n} ranks along shard; `inner` must divide them and be less"
        if other := next((axis for axis in ("pipeline", "expert", "tensor") if min(n, sizes[axis]) > 1), ""):
            return f"three_level_partition does not go with {other}; zero does"
        return ""
