"""World `series`: an autoregressive process in a few levels, one letter a level, with an exactly known entropy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bloomery.data.worlds.chain import PARTS, Chain
from bloomery.seams import Doc, Rng

DOMAINS = ("calm", "rough")


@dataclass(frozen=True)
class World:
    """x = first * x1 + second * x2 + noise around the middle level, rounded to a level: a Markov chain over pairs of levels."""

    documents: int = 4000
    seed: int = 0
    group: int = 4  # documents of a package
    length: int = 120  # levels of a document
    levels: int = 16
    first: float = 1.6  # weight of the level before
    second: float = -0.8  # weight of the one before that
    calm: float = 0.7  # standard deviation of the noise, in levels, in the domain calm
    rough: float = 1.4  # and in the domain rough

    def __post_init__(self) -> None:
        if min(self.documents, self.group) < 1 or self.length < 2 or not 2 <= self.levels <= 26 or min(self.calm, self.rough) <= 0:
            raise ValueError("documents and group must be at least 1, length at least 2, levels from 2 to 26, calm and rough above 0")

    def document(self, i: int) -> Doc:
        """Document `i`."""
        domain = DOMAINS[i // self.group % 2]
        levels = self.chain(domain).draw(self.length, Rng((self.seed, "series", i)))
        return Doc(str(i), "".join(chr(97 + level) for level in levels), {"domain": domain, "package": f"{domain}{i // self.group}"})

    def chain(self, domain: str) -> Chain:
        """What a domain is drawn from."""
        return _chain(self.levels, self.first, self.second, getattr(self, domain))

    def optimal_bits(self, domain: str = "") -> float:
        """Bits per byte that the best model needs; of both kinds together at most so many, as the kind counts as a whole bit."""
        if domain:
            return self.chain(domain).bits(self.length) / self.length
        return sum(self.chain(name).bits(self.length) for name in DOMAINS) / (2 * self.length) + 1 / self.length


@lru_cache(maxsize=8)
def _chain(levels: int, first: float, second: float, noise: float) -> Chain:
    middle = (levels - 1) / 2
    before = np.arange(levels) - middle
    mean = first * before[None, :] + second * before[:, None] + middle  # (level before the last, last level)
    edges = np.arange(levels - 1) + 0.5
    below = np.vectorize(math.erf)((edges - mean.reshape(-1, 1)) / (noise * math.sqrt(2)))
    cut = np.rint((0.5 + 0.5 * below) * PARTS).astype(np.int64)
    cut = np.concatenate([cut, np.full((len(cut), 1), PARTS)], 1)
    return Chain(np.diff(cut, axis=1, prepend=0))
