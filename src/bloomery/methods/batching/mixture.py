from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bloomery.data import mixing
from bloomery.seams import Batching, Clock, Pool, Rng

Pieces = list[tuple[int, int, int]]


@dataclass(frozen=True)
class Mixture:
    """Rows of one domain each, in fixed shares of the tokens.

    Source: standard practice (weights per source).
    Differs: no draw: after any number of rows no domain is more than a row from its share.
    Costs: the inner batching's, once per domain; small domains are repeated more often.
    """

    weights: dict[str, float] | None = None  # share of each domain, by name; those not named get nothing; none given: all alike
    inner: Batching = "packed"  # how the documents of a domain are laid out

    def __post_init__(self) -> None:
        if self.weights is not None and (min(self.weights.values(), default=0) < 0 or not any(self.weights.values())):
            raise ValueError(f"weights must not be negative, and some above 0, got {self.weights}")

    @property
    def uneven(self) -> bool:
        """Whether the rows of a step have a length of their own."""
        return getattr(self.inner, "uneven", False)

    def plan(self, pool: Pool, state: Any, clock: Clock, rng: Rng) -> tuple[list[Pieces], Any]:
        """The rows of the next `clock.batch` inputs. BadInput where the documents are of one kind, or for the name of none."""
        there = mixing.kinds(pool, "mixture")
        weights = self.weights or dict.fromkeys(there, 1.0)
        mixing.known({name: share for name, share in weights.items() if share > 0}, there, "batching: mixture: weights")
        return mixing.mixed(pool, self.inner, weights, state, clock, rng)
