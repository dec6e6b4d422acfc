from __future__ import annotations

from dataclasses import dataclass

from bloomery.seams import Clock


@dataclass(frozen=True)
class Constant:
    """The same value at every step.

    Source: standard practice.
    Differs: no warm-up and no decay.
    Costs: nothing.
    """

    level: float = 1.0  # the value

    def __post_init__(self) -> None:
        if self.level < 0:
            raise ValueError(f"level must not be negative, got {self.level}")

    def value(self, clock: Clock) -> float:
        """The level, whatever the clock says."""
        return self.level
