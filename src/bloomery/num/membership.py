"""Telling members of a training text from others by a score: the area under the ROC curve, and a threshold chosen on one half and measured
on the other.

Sources: Shi et al. 2023, arXiv 2310.16789 (area, true positives at few false ones); Carlini et al. 2022, "Membership inference attacks from
first principles", arXiv 2112.03570, for rates at a stated share of false positives rather than an average over all thresholds. A threshold
that is chosen and measured on the same texts flatters itself, so whole groups go to one half or the other.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bloomery.core.rng import numpy_rng
from bloomery.num.ranks import auc_change, auc_interval
from bloomery.num.statistics import Interval, wilson
from bloomery.seams import Rng


@dataclass(frozen=True)
class Calibrated:
    """A threshold above which a text is called a member, and on the half that did not choose it the shares of members (`true`) and of
    others (`false`) so called."""

    threshold: float
    true: Interval
    false: Interval


def calibrated(scores: Sequence[float], member: Sequence[bool], groups: Sequence[str], rate: float, rng: Rng) -> Calibrated | None:
    """The lowest threshold that calls at most `rate` of one half's others members; None where a half lacks members or others.

    Halves are of whole groups, members and others each by themselves, drawn by `rng`. Above means larger, so ties never count.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"rate must be from 0 to below 1, got {rate}")
    score, kind = np.asarray(scores, np.float64), np.asarray(member, bool)
    first = np.zeros(len(score), bool)
    for side in (True, False):
        first |= _half(kind == side, groups, rng.child("halves", int(side)))
    chosen, rest = score[first & ~kind], ~first
    if not len(chosen) or not (rest & kind).any() or not (rest & ~kind).any():
        return None
    threshold = float(np.sort(chosen)[::-1][min(len(chosen) - 1, math.floor(rate * len(chosen) + 1e-9))])

    def share(which: np.ndarray) -> Interval:
        return wilson((score[which] > threshold).tolist(), [groups[i] for i in np.flatnonzero(which)])

    return Calibrated(threshold, share(rest & kind), share(rest & ~kind))


def _half(which: np.ndarray, groups: Sequence[str], rng: Rng) -> np.ndarray:
    """Half of the groups of some texts, in seeded order, as marks of their texts."""
    names = sorted({groups[i] for i in np.flatnonzero(which)})
    chosen = {names[i] for i in numpy_rng(rng).permutation(len(names))[: len(names) // 2]}
    return which & np.array([group in chosen for group in groups], bool)


def told_apart(
    name: str, scores: Mapping[str, Sequence[float]], member: Sequence[bool], groups: Sequence[str], rate: float, rng: Rng
) -> dict[str, float]:
    """A task's summary: `NAME_auc`, `NAME_true_positives` and `NAME_false_positives` at a threshold for `rate`, with intervals; for the
    task's own score under "" and for each baseline as `@subject`."""
    found: dict[str, float] = {}
    for subject, values in scores.items():
        end = f"@{subject}" if subject else ""
        found |= auc_interval(values, member, groups, rng).named(f"{name}_auc{end}")
        if (one := calibrated(values, member, groups, rate, rng)) is not None:
            found |= one.true.named(f"{name}_true_positives{end}") | one.false.named(f"{name}_false_positives{end}")
    return found


def areas_compared(
    name: str, mine: Sequence[float], theirs: Sequence[float], member: Sequence[bool], groups: Sequence[str], rng: Rng
) -> dict[str, float]:
    """How far one model's area is above another's on the same texts, as a task's comparison names it."""
    return auc_change(mine, theirs, member, groups, rng).named(f"{name}_auc")


def least_likely(logp: Sequence[float], share: float) -> float:
    """Min-K%: the mean over the share of the tokens that are least likely, one at least."""
    worst = sorted(logp)[: max(1, int(share * len(logp)))]
    return math.fsum(worst) / len(worst)


def over_zlib(logp: Sequence[float], text: str) -> float:
    """The mean log-probability over the bytes that zlib makes of the text."""
    return math.fsum(logp) / len(logp) / len(zlib.compress(text.encode()))
