from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Superpipeline:
    """The weights of a few blocks at a time are in memory: those that have been computed leave together, and the next ones come.

    P025 Abbasi and Lim 2024, Superpipeline, arXiv 2410.08791
    Differs: between a disk and the memory of a processor, where the paper moves layers between those of a processor and of a GPU; what
    comes next is read ahead by the system, not by a thread of its own. Masters and optimizer states lie on the disk with the weights, as
    with zero_infinity; gradients, and what is no block, stay in memory.
    Costs: of L blocks the weights of `resident` are in memory; forward and backward read the others, 2 (L - `resident`) blocks for each
    micro-batch, besides what the update reads and writes.
    """

    resident: int = 4  # blocks whose weights are in memory, k
    together: int = 2  # blocks that leave, and are read ahead, at a time, k'

    axes = ()
    exact = True

    def __post_init__(self) -> None:
        if not 1 <= self.together <= self.resident:
            raise ValueError(f"together must be at least 1 and at most resident, got {self.together} and {self.resident}")

    def place(self, net: nn.Module, mesh: Any) -> nn.Module:
        """The model stays as it is; where its weights lie is the optimizer's."""
        return net

    def unfit(self, cfg: Any, row: int, sizes: Mapping[str, int]) -> str:
        """Any model can be kept so; one of no more blocks than stay is in memory whole."""
        return ""

    def pieces(self, numbers: int) -> list[tuple[int, int, str, str]]:
        """All of it on the disk, updated by the host."""
        return [(0, numbers, "disk", "host")]
