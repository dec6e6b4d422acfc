from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class ZeroInfinity:
    """Masters and optimizer states lie on a disk, and the host brings them to memory piece by piece for the update.

    P288 Rajbhandari et al. 2021, ZeRO-Infinity, arXiv 2104.07857
    Differs: weights, gradients and activations stay in memory; files are mapped, so that the system reads ahead and writes behind, where
    the paper has queues of its own; ranks that are copies each have files of their own; a checkpoint is copied through memory.
    Costs: of a parameter in bfloat16 12 bytes on the disk, in float32 8, which a step reads and writes once.
    """

    axes = ()
    exact = True

    def place(self, net: nn.Module, mesh: Any) -> nn.Module:
        """The model stays as it is."""
        return net

    def unfit(self, cfg: Any, row: int, sizes: Mapping[str, int]) -> str:
        """Any model can be kept so."""
        return ""

    def pieces(self, numbers: int) -> list[tuple[int, int, str, str]]:
        """All of it on the disk, updated by the host."""
        return [(0, numbers, "disk", "host")]
