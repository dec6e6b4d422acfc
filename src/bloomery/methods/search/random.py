"""Search `random`: trials drawn from a declared space, the baseline of every other search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bloomery.num import spaces
from bloomery.seams import Rng

SPACE = {"rate": (5e-4, 1e-2)}


@dataclass(frozen=True)
class Random:
    """Trials drawn from a space: ranges by their logarithm, choices alike; none depends on the outcome of another.

    Source: Bergstra & Bengio 2012, JMLR 13; `even` after Bousquet et al. 2017, arXiv 1706.03200
    Differs: values have four digits, so that a trial reads well as a recipe; `even` shifts a Halton sequence instead of scrambling it.
    Costs: nothing beside the trials, which can all run at once.
    """

    space: dict | None = None  # knob -> {low, high} or list of choices; None = the learning rate
    trials: int = 8  # trials in all
    even: bool = False  # fill the space evenly instead of independently, which needs fewer trials

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ValueError(f"trials must be at least 1, got {self.trials}")
        spaces.read(self.space or SPACE)

    def propose(self, history: Sequence[tuple[Mapping[str, Any], Mapping[str, float]]], rng: Rng) -> list[Mapping[str, Any]]:
        """All trials that the history does not have yet. Trial i is the same however many there are and whatever came before it."""
        space = spaces.read(self.space or SPACE)
        return [spaces.sample(space, i, rng, self.even) for i in range(len(history), self.trials)]
