"""Comparisons over seeds and what follows from them. A claim holds, does not hold at this scale, or is undecided; nothing is rounded
in its favour."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any, Literal

from bloomery.core.errors import BadInput

Outcome = Literal["holds", "refuted", "undecided"]
HOLDS, REFUTED, UNDECIDED, FAILED = "holds", "does not hold at this scale", "undecided", "could not be run"
WORST = (FAILED, REFUTED, UNDECIDED, HOLDS)
LEVEL = 0.95


@dataclass(frozen=True)
class Comparison:
    """Two arms over the same seeds. `difference` is ours minus the baseline, paired by seed, with its 95% t interval; None where there
    is none, with one seed or a figure that is no number."""

    what: str
    relation: Literal["less", "more", "near"]
    unit: str
    margin: float
    better: str  # lower or higher, "" where neither is
    ours: tuple[float | None, ...]
    baseline: tuple[float | None, ...]
    mean_ours: float | None
    mean_baseline: float | None
    spread_ours: float | None  # standard deviation over seeds
    spread_baseline: float | None
    difference: float | None
    low: float | None
    high: float | None
    outcome: Outcome

    def facts(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**asdict(self), "ours": list(self.ours), "baseline": list(self.baseline)}


def read(found: Mapping[str, Any]) -> Comparison:
    """A comparison from JSON."""
    return Comparison(**{**found, "ours": tuple(found["ours"]), "baseline": tuple(found["baseline"])})


def compare(
    relation: Literal["less", "more", "near"],
    what: str,
    ours: Sequence[float] | float,
    baseline: Sequence[float] | float,
    unit: str = "",
    margin: float = 0.0,
    better: str = "",
) -> Comparison:
    """Pair two lists by place and judge the relation. A plain number is exact: it stands for every seed, and two of them need no
    interval. BadInput for lists of different lengths."""
    from bloomery.num.statistics import student

    exact = isinstance(ours, Real) and isinstance(baseline, Real)
    count = next((len(one) for one in (ours, baseline) if not isinstance(one, Real)), 2)
    a, b = (_numbers(one, count, what) for one in (ours, baseline))
    if len(a) != len(b) or not a:
        raise BadInput(f"{what}: the two arms must have as many values, at least one: got {len(a)} and {len(b)}")
    if not isinstance(margin, Real) or not isinstance(unit, str):
        raise BadInput(f"{what}: the margin is a number and the unit a word, got {margin!r} and {unit!r}")
    if relation == "near" and margin < 0:
        raise BadInput(f"{what}: a margin within which values are near must not be negative, got {margin}")
    interval = student([x - y for x, y in zip(a, b, strict=True)], LEVEL)
    outcome = judge(relation, a, b, interval.low, interval.high, margin)
    if exact:
        a, b = a[:1], b[:1]
    means = [_finite(math.fsum(one) / len(one)) if all(map(math.isfinite, one)) else None for one in (a, b)]
    ends = [_finite(value) for value in (interval.value, interval.low, interval.high)]
    shown = [tuple(_finite(value) for value in one) for one in (a, b)]
    return Comparison(what, relation, unit, margin, better, *shown, *means, _spread(a), _spread(b), *ends, outcome)


def judge(relation: str, ours: Sequence[float], baseline: Sequence[float], low: float, high: float, margin: float) -> Outcome:
    """`low` and `high` are the ends of the paired difference. What holds anywhere in the interval holds; what holds nowhere in it is
    refuted. A figure of ours that is no number refutes; one of the baseline leaves the matter open."""
    if not all(map(math.isfinite, ours)):
        return "refuted"
    if not all(map(math.isfinite, (*baseline, low, high))):
        return "undecided"
    if relation == "more":
        low, high = -high, -low
    if relation in ("less", "more"):
        return "holds" if high < -margin else "refuted" if low >= -margin else "undecided"
    return "holds" if -margin <= low and high <= margin else "refuted" if low > margin or high < -margin else "undecided"


def verdict(outcomes: Iterable[str]) -> str:
    """Of a claim, from the outcomes of its comparisons: it holds where all hold, and one that is refuted refutes it."""
    found = list(outcomes)
    if not found:
        return UNDECIDED
    return REFUTED if "refuted" in found else UNDECIDED if "undecided" in found else HOLDS


def together(verdicts: Iterable[str]) -> str:
    """Of a file of claims: the worst of theirs."""
    found = set(verdicts)
    return next((one for one in WORST if one in found), UNDECIDED)


def _numbers(given: Any, count: int, what: str) -> list[float]:
    """Values as floats; None and what is no number becomes nan."""
    try:
        values = [given] * count if isinstance(given, Real) else list(given)
        return [math.nan if value is None else float(value) for value in values]
    except (TypeError, ValueError):
        raise BadInput(f"{what}: numbers are compared, not {given!r}") from None


def _finite(value: float) -> float | None:
    """JSON has no nan."""
    return value if math.isfinite(value) else None


def _spread(values: Sequence[float]) -> float | None:
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return None
    centre = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1))
