from __future__ import annotations

from dataclasses import dataclass

from bloomery.seams import Clock


@dataclass(frozen=True)
class Rex:
    """Falls slowly at first and fast at the end, over whatever budget the run has: the reflected exponential profile.

    P212 Chen et al. 2021, arXiv 2107.04197
    Differs: a linear warm-up before it, since the optimizers here begin with empty moments; `warmup: 0` is the paper's.
    Costs: nothing; a run without a planned end never decays.
    """

    warmup: float = 0.02  # share of the run that warms up linearly
    space = {"rate": (5e-4, 1e-2), "warmup": [0.0, 0.02, 0.1]}

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup must be at least 0 and below 1, got {self.warmup}")

    def value(self, clock: Clock) -> float:
        """Multiplier in 0..1 for the step that begins at `clock`: 2 left / (1 + left), where `left` is the share of the decay to go."""
        if clock.total is None:
            return 1.0
        warm = (clock.tokens + clock.batch) / (self.warmup * clock.total) if self.warmup else 1.0
        left = min(1.0, max(0.0, (clock.total - clock.tokens) / ((1 - self.warmup) * clock.total)))
        return min(1.0, warm) * 2 * left / (1 + left)
