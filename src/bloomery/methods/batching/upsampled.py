from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bloomery.data import mixing
from bloomery.seams import Batching, Clock, Pool, Rng

Pieces = list[tuple[int, int, int]]


@dataclass(frozen=True)
class Upsampled:
    """Small domains get a larger share of the last part of the run, which is else unchanged.

    P360 Blakeney et al. 2024, arXiv 2406.03476
    Differs: shares are met without a draw. A domain with the weight 0 in `last` is left out of the last part alone, which is how the paper
    asks what a data set is worth. With no planned end there is no last part.
    Costs: the inner batching's, once per domain.
    """

    last: dict[str, float] | None = None  # share of each domain in the last part, by name; those not named get none; none given: all alike
    share: float = 0.2  # how much of the planned tokens the last part is; 0.1 to 0.2 were best
    weights: dict[str, float] | None = None  # shares before that; none given: as many tokens as each domain holds
    inner: Batching = "packed"  # how the documents of a domain are laid out

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must lie between 0 and 1, got {self.share}")
        for name in ("last", "weights"):
            given = getattr(self, name)
            if given is not None and (min(given.values(), default=0) < 0 or not any(given.values())):
                raise ValueError(f"{name} must not be negative, and some above 0, got {given}")

    @property
    def uneven(self) -> bool:
        """Whether the rows of a step have a length of their own."""
        return getattr(self.inner, "uneven", False)

    def plan(self, pool: Pool, state: Any, clock: Clock, rng: Rng) -> tuple[list[Pieces], Any]:
        """The rows of the next `clock.batch` inputs. The state holds what is owed and how far each domain has been read, of all domains,
        so that one that pauses goes on where it was. BadInput where the documents are of one kind, or for the name of none."""
        there = mixing.kinds(pool, "upsampled")
        for knob in ("last", "weights"):
            named = {name: share for name, share in (getattr(self, knob) or {}).items() if share > 0}
            mixing.known(named, there, f"batching: upsampled: {knob}")
        rows, made = mixing.mixed(pool, self.inner, self.mixture(pool, there, clock), state, clock, rng)
        paused = {key: {**(state or {}).get(key, {}), **made[key]} for key in ("owed", "inner")}
        return rows, paused

    def mixture(self, pool: Pool, there: list[str], clock: Clock) -> dict[str, float]:
        """The weights of the step that begins at `clock`."""
        if clock.total is not None and clock.tokens >= (1 - self.share) * clock.total:
            return self.last or dict.fromkeys(there, 1.0)
        held = np.bincount(pool.domain, np.maximum(pool.lengths, 0), len(pool.domains))
        return self.weights or {name: float(held[pool.domains.index(name)]) for name in there}
