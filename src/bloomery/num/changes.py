"""Differences between two systems asked the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bloomery.num.statistics import Interval, paired, wilson
from bloomery.seams import Rng


def mean_change(mine: Sequence[float], theirs: Sequence[float], groups: Sequence[str], rng: Rng) -> Interval:
    """The mean of `mine` minus that of `theirs`, item by item, with its 95% interval over groups, as `paired` has it.

    Where all scores are zeros and ones and no item's differs, a bootstrap would be certain that there is no difference: the ends are
    then the largest share of groups that may differ, one way or the other, by `wilson`'s interval around none. Raises ValueError for no
    items.
    """
    found = paired(mine, theirs, [1.0] * len(mine), groups, rng)
    if found.groups < 2 or list(mine) != list(theirs) or not {*mine} <= {0, 1}:
        return found
    most = wilson([False] * len(mine), groups).high
    return replace(found, low=-most, high=most)
