from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bloomery.data import mixing
from bloomery.seams import Batching, Clock, Pool, Rng

Pieces = list[tuple[int, int, int]]


@dataclass(frozen=True)
class Cooldown:
    """Small domains are repeated often at first and less as training goes on: shares follow a temperature that falls.

    P234 Li et al. 2024, arXiv 2410.04579
    Differs: shares are met without a draw; the temperature falls in a straight line from `begin` to `end` of the run, a step where the
    two are equal. With no planned end the clock has no share, and the temperature stays high.
    Costs: the inner batching's, once per domain.
    """

    high: float = 5.0  # temperature at first: a domain of n tokens has the share n^(1/temperature)
    low: float = 1.0  # temperature at last; 1: as much of each as there is
    begin: float = 0.5  # share of the planned tokens after which it falls
    end: float = 0.75  # share of them after which it is low
    inner: Batching = "packed"  # how the documents of a domain are laid out

    def __post_init__(self) -> None:
        if min(self.high, self.low) < 1:
            raise ValueError(f"high and low must be at least 1, got {self.high} and {self.low}")
        if not 0 <= self.begin <= self.end <= 1:
            raise ValueError(f"begin and end must be shares in this order, got {self.begin} and {self.end}")

    @property
    def uneven(self) -> bool:
        """Whether the rows of a step have a length of their own."""
        return getattr(self.inner, "uneven", False)

    def plan(self, pool: Pool, state: Any, clock: Clock, rng: Rng) -> tuple[list[Pieces], Any]:
        """The rows of the next `clock.batch` inputs. BadInput where the documents are of one kind."""
        names = mixing.kinds(pool, "cooldown")
        held = np.bincount(pool.domain, np.maximum(pool.lengths, 0), len(pool.domains))
        sizes = {name: float(held[pool.domains.index(name)]) for name in names}
        return mixing.mixed(pool, self.inner, shares(sizes, self.temperature(clock)), state, clock, rng)

    def temperature(self, clock: Clock) -> float:
        """The temperature of the step that begins at `clock`."""
        if clock.total is None:
            return self.high
        done = clock.tokens / clock.total
        if done >= self.end:
            return self.low
        if done < self.begin:
            return self.high
        return self.high + (self.low - self.high) * (done - self.begin) / (self.end - self.begin)


def shares(sizes: dict[str, float], temperature: float) -> dict[str, float]:
    """n^(1/temperature) of each domain, summing to 1."""
    most = max(sizes.values())
    raw = {name: (size / most) ** (1 / temperature) for name, size in sizes.items()}
    return {name: value / sum(raw.values()) for name, value in raw.items()}
