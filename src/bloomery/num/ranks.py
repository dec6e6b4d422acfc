"""How well a number tells two kinds apart: the area under the ROC curve, with an interval by a bootstrap over groups.

Legend: I items, G groups, R draws. The area is the share of pairs (one of each kind) that the number puts in the right order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bloomery.core.rng import numpy_rng
from bloomery.num.statistics import Interval
from bloomery.seams import Rng


def auc(scores: Sequence[float], positive: Sequence[bool], weights: np.ndarray | None = None) -> float:
    """P(a positive one's score is above a negative one's) + half of P(equal); nan where a kind is missing. `weights` count items."""
    score, kind = np.asarray(scores, np.float64), np.asarray(positive, bool)
    weight = np.ones(len(score)) if weights is None else np.asarray(weights, np.float64)
    level = np.unique(score, return_inverse=True)[1]
    count = level.max(initial=-1) + 1
    above, below = (np.bincount(level, weight * which, count) for which in (kind, ~kind))
    if not above.sum() or not below.sum():
        return float("nan")
    lower = np.cumsum(below) - below
    return float((above * (lower + below / 2)).sum() / above.sum() / below.sum())


def auc_interval(
    scores: Sequence[float], positive: Sequence[bool], groups: Sequence[str], rng: Rng, level: float = 0.95, draws: int = 1000
) -> Interval:
    """The area with its percentile interval; whole groups are drawn again, within each kind. ValueError for no items."""
    return _interval(lambda weights: auc(scores, positive, weights), len(scores), positive, groups, rng, level, draws)


def auc_change(
    scores: Sequence[float], others: Sequence[float], positive: Sequence[bool], groups: Sequence[str], rng: Rng, level: float = 0.95,
    draws: int = 1000,
) -> Interval:  # fmt: skip
    """The area by `scores` minus that by `others` of the same items, both drawn together."""
    change = lambda weights: auc(scores, positive, weights) - auc(others, positive, weights)  # noqa: E731
    return _interval(change, len(scores), positive, groups, rng, level, draws)


def _interval(
    value: Callable[[np.ndarray | None], float], size: int, positive: Sequence[bool], groups: Sequence[str], rng: Rng, level: float,
    draws: int,
) -> Interval:  # fmt: skip
    kind = np.asarray(positive, bool)
    if not len(kind) or not size == len(kind) == len(groups):
        raise ValueError(f"as many kinds and groups as scores are needed, at least one: got {len(kind)}, {len(groups)} and {size}")
    names, number = np.unique([f"{one}\0{group}" for one, group in zip(kind, groups, strict=True)], return_inverse=True)
    sides = [np.unique(number[kind == side]) for side in (True, False)]
    whole = value(None)
    if min(map(len, sides)) < 2:
        return Interval(whole, float("nan"), float("nan"), len(kind), len(names))
    gen, found = numpy_rng(rng), []
    for _ in range(draws):
        drawn = np.zeros(len(names))
        for side in sides:
            drawn[side] = gen.multinomial(len(side), np.full(len(side), 1 / len(side)))
        found.append(value(drawn[number]))
    low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(whole, float(low), float(high), len(kind), len(names))
