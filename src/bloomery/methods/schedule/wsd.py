from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from bloomery.seams import Clock


@dataclass(frozen=True)
class Wsd:
    """Warm up, stay at the peak, then decay at the end: a share of the peak rate for each point of the run.

    Hu et al. 2024, arXiv 2404.06395
    Differs: the decay is linear by default or 1 - sqrt (Hägele et al. 2024, arXiv 2405.18392) instead of exponential.
    Costs: nothing; a run without a planned end never decays.
    """

    warmup: float = 0.02  # share of the run that warms up linearly
    decay: float = 0.5  # share of the run that decays
    floor: float = 0.0  # share of the peak rate that is left at the end
    shape: Literal["linear", "sqrt", "cosine"] = "linear"  # course of the decay; sqrt is 1 - sqrt(x)

    def __post_init__(self) -> None:
        for name in ("warmup", "decay", "floor"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        if self.warmup + self.decay > 1:
            raise ValueError(f"warmup + decay must not exceed 1, got {self.warmup + self.decay}")

    def value(self, clock: Clock) -> float:
        """Multiplier in 0..1 for the step that begins at `clock`; above 0 in the first and the last step when floor is 0."""
        if clock.total is None:
            return 1.0
        warm = (clock.tokens + clock.batch) / (self.warmup * clock.total) if self.warmup else 1.0
        left = (clock.total - clock.tokens) / (self.decay * clock.total) if self.decay else 1.0
        return min(1.0, warm) * (self.floor + (1 - self.floor) * self.course(min(1.0, max(0.0, left))))

    def course(self, left: float) -> float:
        """The decay's value with the share `left` of it to go: 1 at its begin, 0 at its end."""
        if self.shape == "sqrt":
            return 1 - math.sqrt(1 - left)
        if self.shape == "cosine":
            return 0.5 - 0.5 * math.cos(math.pi * left)
        return left
