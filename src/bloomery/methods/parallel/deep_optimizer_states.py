from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class DeepOptimizerStates:
    """Masters and states lie in the host's memory in pieces; every so many pieces the device updates one while the host does the others.

    P228 Maurya et al. 2024, Deep Optimizer States, arXiv 2410.21316
    Differs: the share of the device is a knob, where the paper works it out from measured speeds of both and of the bus between them.
    Costs: as zero_offload; sent besides for each piece that the device updates: 12 bytes of a parameter there and back.
    """

    piece: int = 4_194_304  # parameters of a piece
    every: int = 2  # of so many pieces the device updates one; 1: all

    axes = ()
    exact = True

    def __post_init__(self) -> None:
        if min(self.piece, self.every) < 1:
            raise ValueError(f"piece and every must be at least 1, got {self.piece} and {self.every}")

    def place(self, net: nn.Module, mesh: Any) -> nn.Module:
        """The model stays as it is."""
        return net

    def unfit(self, cfg: Any, row: int, sizes: Mapping[str, int]) -> str:
        """Any model can be kept so."""
        return ""

    def pieces(self, numbers: int) -> list[tuple[int, int, str, str]]:
        """On the host; pieces 0, every, 2 every, ... are updated by the device."""
        found = []
        for number, start in enumerate(range(0, numbers, self.piece)):
            found.append((start, min(start + self.piece, numbers), "host", "host" if number % self.every else "device"))
        return found
