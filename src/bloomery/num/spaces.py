"""Spaces that a search looks in: knobs with a range, searched by its logarithm, or with a list of choices.

A range is a tuple (low, high), or {low: ..., high: ...} where text has no tuples; with two whole numbers its values are whole.
Source of the even spread: Cranley & Patterson 1976 (a shifted low-discrepancy sequence), Halton 1960; as AlgoPerf tunes (P011).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bloomery.core.rng import python_rng

if TYPE_CHECKING:
    from bloomery.seams import Rng

PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
DIGITS = 4  # significant digits of a sampled number: a recipe that a person can read, and no coarser than any search can resolve


@dataclass(frozen=True)
class Range:
    """Positive numbers from low to high."""

    low: float
    high: float
    whole: bool = False

    def at(self, share: float) -> float:
        """The value at a share in [0, 1) of the logarithm's way from low to high."""
        value = self.low * (self.high / self.low) ** share
        return self.fit(value)

    def fit(self, value: float) -> float:
        """The nearest value that the range has, with few digits."""
        value = min(max(value, self.low), self.high)
        return round(value) if self.whole else float(f"{value:.{DIGITS}g}")


@dataclass(frozen=True)
class Choices:
    """One of several values, in their order."""

    values: tuple[Any, ...]

    def at(self, share: float) -> Any:
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]


Space = dict[str, Range | Choices]


def read(space: Mapping[str, Any]) -> Space:
    """A declared space; ValueError names the knob whose entry is neither a range of positive numbers nor a list."""
    found: Space = {}
    for name, entry in space.items():
        if isinstance(entry, Mapping) and set(entry) == {"low", "high"}:
            entry = (entry["low"], entry["high"])
        if isinstance(entry, tuple):
            numbers = len(entry) == 2 and all(isinstance(one, int | float) and not isinstance(one, bool) for one in entry)
            if not numbers or not 0 < entry[0] < entry[1] < math.inf:
                raise ValueError(f"{name}: a range is two positive numbers, the lower first, got {entry!r}")
            found[name] = Range(*entry, whole=all(isinstance(one, int) for one in entry))
        elif isinstance(entry, list) and entry:
            found[name] = Choices(tuple(entry))
        else:
            raise ValueError(f"{name}: a range (low, high) or a list of choices is asked for, got {entry!r}")
    return found


def sample(space: Space, place: int, rng: Rng, even: bool = False) -> dict[str, Any]:
    """The values of trial number `place` (from 0), which depend on nothing but it and the key, so a longer search begins alike.

    With `even`, the trials of one key fill the space evenly: a Halton sequence, shifted by a random number in each direction.
    """
    values = {}
    for i, (name, part) in enumerate(space.items()):
        if even:
            share = (_halton(place, PRIMES[i % len(PRIMES)]) + python_rng(rng.child("shift", name)).random()) % 1.0
        else:
            share = python_rng(rng.child("trial", place, name)).random()
        values[name] = part.at(share)
    return values


def _halton(place: int, base: int) -> float:
    """The digits of `place` in `base`, mirrored behind the point."""
    share, digit = 0.0, 1.0 / base
    while place:
        share += digit * (place % base)
        place //= base
        digit /= base
    return share


def perturb(space: Space, values: Mapping[str, Any], rng: Rng, factors: tuple[float, ...], resample: float) -> dict[str, Any]:
    """Each value times one of `factors`, or with probability `resample` drawn anew; a choice moves to a neighbour in its list.

    A whole number moves by at least 1 in the direction of the factor, unless it is at the end of its range.
    """
    found = {}
    for name, part in space.items():
        dice = python_rng(rng.child("perturb", name))
        if dice.random() < resample:
            found[name] = part.at(dice.random())
        elif isinstance(part, Range):
            factor = dice.choice(factors)
            found[name] = part.fit(values[name] * factor)
            if part.whole and factor != 1 and found[name] == values[name]:
                found[name] = part.fit(values[name] + (1 if factor > 1 else -1))
        else:
            at = part.values.index(values[name]) + dice.choice((-1, 1))
            found[name] = part.values[min(max(at, 0), len(part.values) - 1)]
    return found


def figure(figures: Mapping[str, float], target: str) -> float:
    """What a search makes small: the figure `target`, or its negative for "-target"; infinite where the trial failed or has none."""
    value = figures.get(target.removeprefix("-"))
    if value is None or not math.isfinite(value):
        return math.inf
    return -float(value) if target.startswith("-") else float(value)
