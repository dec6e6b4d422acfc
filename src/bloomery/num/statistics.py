"""Intervals for ratios and means whose items come in groups that are not independent, by a bootstrap over groups.

Sources: Efron & Tibshirani 1993, "An Introduction to the Bootstrap" (percentile interval); Field & Welsh 2007, "Bootstrapping
clustered data" (whole groups are drawn again). Files of one package resemble each other, so drawing files would promise too much.
A handful of seeds is too few to draw from again: there, Student's t (Student 1908, "The probable error of a mean").

Legend: I items, G groups, R draws. Every figure is a ratio of sums, so a draw needs only each group's sums: R x G work, not R x I.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bloomery.core.rng import numpy_rng

if TYPE_CHECKING:
    from bloomery.seams import Rng


@dataclass(frozen=True)
class Interval:
    """A measured value with its interval; low and high are nan with fewer than two groups, where nothing is known of the spread."""

    value: float
    low: float
    high: float
    n: int  # items
    groups: int

    def named(self, metric: str) -> dict[str, float]:
        """As a task's summary holds it: `metric`, `metric.low`, `metric.high`, `metric.n`."""
        return {metric: self.value, f"{metric}.low": self.low, f"{metric}.high": self.high, f"{metric}.n": self.n}


def ratio(
    above: Sequence[float], below: Sequence[float], groups: Sequence[str], rng: Rng, level: float = 0.95, draws: int = 2000
) -> Interval:
    """sum(above) / sum(below), for example bits / bytes, with its percentile interval over groups. Raises ValueError for no items
    or sums below that are not positive."""
    sums, n = _group_sums(groups, above, below)
    drawn = _drawn(sums, rng, draws)
    return _interval(_quotient(sums.sum(0)[None], 0, 1)[0], _quotient(drawn, 0, 1), n, len(sums), level)


def mean(values: Sequence[float], groups: Sequence[str], rng: Rng, level: float = 0.95, draws: int = 2000) -> Interval:
    """The mean over items, with its percentile interval over groups. Raises ValueError for no items."""
    return ratio(values, np.ones(len(values)), groups, rng, level, draws)


def share(values: Sequence[float], groups: Sequence[str], rng: Rng) -> Interval:
    """The mean of zeros and ones: as `mean`, but with the ends of `wilson` where all are alike, of which a bootstrap would be certain."""
    found = mean(values, groups, rng)
    return found if 0 < found.value < 1 or found.groups < 2 else wilson([value == 1 for value in values], groups)


def paired(
    above: Sequence[float],
    other: Sequence[float],
    below: Sequence[float],
    groups: Sequence[str],
    rng: Rng,
    level: float = 0.95,
    draws: int = 2000,
) -> Interval:
    """sum(above) / sum(below) - sum(other) / sum(below): two systems on the same items, drawn together, so that what is hard for
    both cancels. Negative: `above` is the smaller. With `below` all ones: the difference of two means."""
    sums, n = _group_sums(groups, above, other, below)
    drawn = _drawn(sums, rng, draws)
    whole = sums.sum(0)[None]
    value = _quotient(whole, 0, 2)[0] - _quotient(whole, 1, 2)[0]
    return _interval(value, _quotient(drawn, 0, 2) - _quotient(drawn, 1, 2), n, len(sums), level)


def _group_sums(groups: Sequence[str], *columns: Sequence[float]) -> tuple[np.ndarray, int]:
    """Each column summed by group -> (G, columns), and the number of items; groups in sorted order, so item order does not matter."""
    names, number = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    values = [np.asarray(column, np.float64) for column in columns]
    if not len(number) or any(len(column) != len(number) for column in values):
        raise ValueError(f"as many groups as values are needed, at least one: got {len(number)} and {[len(c) for c in values]}")
    if values[-1].sum() <= 0 or values[-1].min() < 0:
        raise ValueError("the sums below the line must be positive")
    return np.stack([np.bincount(number, weights=column, minlength=len(names)) for column in values], 1), len(number)


def _drawn(sums: np.ndarray, rng: Rng, draws: int) -> np.ndarray:
    """The column sums of `draws` bootstrap samples of whole groups (R, columns)."""
    count = len(sums)
    return numpy_rng(rng).multinomial(count, np.full(count, 1.0 / count), size=draws) @ sums


def _quotient(sums: np.ndarray, above: int, below: int) -> np.ndarray:
    """One column over another; a draw whose groups are all empty below says nothing and becomes nan."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sums[:, below] > 0, sums[:, above] / sums[:, below], np.nan)


def _interval(value: float, drawn: np.ndarray, n: int, groups: int, level: float) -> Interval:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    if groups < 2:
        return Interval(float(value), float("nan"), float("nan"), n, groups)
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high), n, groups)


def bootstrap(
    statistic: Callable[[Sequence[int]], float], groups: Sequence[str], rng: Rng, level: float = 0.95, draws: int = 500
) -> Interval:
    """Any statistic of items with its percentile interval over groups; `statistic` gets the places of the items, repeats included.

    For means and ratios `mean` and `ratio` are the same and faster. A draw of which the statistic is no number says nothing. Raises
    ValueError for no items.
    """
    if not len(groups):
        raise ValueError("at least one item is needed")
    names, number = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    members = [np.flatnonzero(number == g) for g in range(len(names))]
    whole = float(statistic(range(len(groups))))
    if len(names) < 2:
        return Interval(whole, float("nan"), float("nan"), len(groups), len(names))
    chosen = numpy_rng(rng).integers(len(names), size=(draws, len(names)))
    drawn = np.array([statistic(np.concatenate([members[g] for g in one]).tolist()) for one in chosen], np.float64)
    return _interval(whole, np.where(np.isfinite(drawn), drawn, np.nan), len(groups), len(names), level)


def wilson(values: Sequence[bool], groups: Sequence[str]) -> Interval:
    """The share of items that are true with its 95% score interval (Wilson 1927, "Probable inference, the law of succession, and
    statistical inference"), as of so many trials as there are groups: it has a width where none or all are true, as a bootstrap has not.
    Raises ValueError for no items."""
    n, z = len(set(groups)), 1.959964
    if not len(values) or len(values) != len(groups):
        raise ValueError(f"as many groups as values are needed, at least one: got {len(groups)} and {len(values)}")
    share = sum(map(bool, values)) / len(values)
    centre, spread = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = ((centre + sign * spread) / (1 + z * z / n) for sign in (-1, 1))
    return Interval(share, 0.0 if share == 0 else low, 1.0 if share == 1 else high, len(values), n)


def student(values: Sequence[float], level: float = 0.95) -> Interval:
    """The mean of independent values with its t interval, such as differences paired by seed. nan for the ends of a single value; no
    width where all values are equal. Raises ValueError for no values."""
    n = len(values)
    if not n or not 0 < level < 1:
        raise ValueError(f"at least one value and a level between 0 and 1 are needed, got {n} and {level}")
    centre = math.fsum(values) / n
    if n == 1 or not math.isfinite(centre):
        return Interval(centre, math.nan, math.nan, n, n)
    if min(values) == max(values):
        return Interval(values[0], values[0], values[0], n, n)
    spread = math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (n - 1))
    half = t_quantile((1 + level) / 2, n - 1) * spread / math.sqrt(n)
    return Interval(centre, centre - half, centre + half, n, n)


def t_quantile(p: float, freedom: int) -> float:
    """The value below which Student's t with so many degrees of freedom lies with probability p, by bisection of its distribution."""
    if not 0 < p < 1 or freedom < 1:
        raise ValueError(f"p must lie between 0 and 1 and freedom be at least 1, got {p} and {freedom}")
    if p < 0.5:
        return -t_quantile(1 - p, freedom)
    low, high = 0.0, 1.0
    while t_below(high, freedom) < p:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if t_below(middle, freedom) < p else (low, middle)
    return (low + high) / 2


def t_below(t: float, freedom: int) -> float:
    """P(T <= t) of Student's t: the finite sums of Abramowitz & Stegun 1964, 26.7.3 and 26.7.4."""
    angle = math.atan2(t, math.sqrt(freedom))
    cosine, odd = math.cos(angle) ** 2, freedom % 2
    term = total = math.cos(angle) if odd else 1.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= cosine * (k - 1) / k
        total += term
    inside = 2 / math.pi * (angle + (math.sin(angle) * total if freedom > 1 else 0.0)) if odd else math.sin(angle) * total
    return (1 + inside) / 2
