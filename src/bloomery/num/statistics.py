"""Intervals for ratios and means whose items come in groups that are not independent, by a bootstrap over groups.

Sources: Efron & Tibshirani 1993, "An Introduction to the Bootstrap" (percentile interval); Field & Welsh 2007, "Bootstrapping
clustered data" (whole groups are drawn again). Files of one package resemble each other, so drawing files would promise too much.

Legend: I items, G groups, R draws. Every figure is a ratio of sums, so a draw needs only each group's sums: R x G work, not R x I.
"""

from __future__ import annotations

from collections.abc import Sequence
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
