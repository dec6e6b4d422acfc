"""From numbers to places: ranges, ticks at round numbers, their labels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bloomery.draw.numbers import MINUS, number, si


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] to [start, stop] in pixels; `log` needs low > 0. Values outside are held at the border."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of `value` in pixels."""
        if self.log:
            low, high, value = math.log(self.low), math.log(self.high), math.log(max(value, self.low))
        else:
            low, high = self.low, self.high
        share = (value - low) / (high - low)
        return self.start + (self.stop - self.start) * min(1.0, max(0.0, share))

    def ticks(self, about: int = 5) -> list[float]:
        """About so many round numbers inside [low, high], ascending."""
        return log_ticks(self.low, self.high, about) if self.log else ticks(self.low, self.high, about)


def spread(values: Iterable[float], log: bool = False, zero: bool = False, air: float = 0.05) -> tuple[float, float]:
    """The range (low, high) to draw: that of the finite values and some air; never empty; positive when `log`."""
    good = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
    if not good:
        return (1.0, 10.0) if log else (0.0, 1.0)
    low, high = min(good), max(good)
    if log:
        if low == high:
            return low / 2, high * 2
        factor = (high / low) ** air
        return low / factor, high * factor
    if zero:
        low, high = min(0.0, low), max(0.0, high)
    if low == high:
        widen = abs(low) * 0.1 or 1.0
        return low - (0 if zero and low == 0 else widen), high + widen
    room = (high - low) * air
    return (low if zero and low == 0 else low - room), (high if zero and high == 0 else high + room)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten inside [low, high], about `about` of them."""
    raw = (high - low) / max(1, about)
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((power * m for m in (1, 2, 5, 10)), key=lambda s: (abs(math.log(s / raw)), s))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12 - math.floor(math.log10(step))) for i in range(first, last + 1)]


def log_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Powers of ten inside [low, high]; with twos and fives between them where there are few, thinned where there are many."""
    if high / low < 12:
        return [t for t in ticks(low, high, about) if t > 0]
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    inside = [10.0**e for e in range(first, last + 1) if low <= 10.0**e * 1.0000001 and 10.0**e <= high * 1.0000001]
    if len(inside) < 3:
        inside = [m * 10.0**e for e in range(first, last + 1) for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    return inside[:: max(1, math.ceil(len(inside) / max(2, about + 1)))]


def labels(values: Sequence[float]) -> list[str]:
    """Labels of ticks, all with the same number of decimals; thousands as k, M, G."""
    if not values:
        return []
    largest = max(abs(v) for v in values)
    steps = [abs(b - a) for a, b in pairwise(values)]
    step = min(steps) if steps else largest or 1.0
    unequal = bool(steps) and max(steps) > step * 1.5  # a logarithmic axis: each label for itself
    if unequal and largest >= 10_000:
        return [_tidy(si(v, digits=4)) if v else "0" for v in values]
    if unequal:
        return [f"{v:g}" for v in values]
    if largest < 1e-4 or largest >= 1e18:
        digits = max(2, math.floor(math.log10(largest)) - math.floor(math.log10(step)) + 1) if largest and step else 2
        return [number(v, digits) if v else "0" for v in values]
    power = min(15, max(0, 3 * math.floor(math.log10(largest) / 3))) if largest >= 10_000 else 0
    prefix = {0: "", 3: "\u202fk", 6: "\u202fM", 9: "\u202fG", 12: "\u202fT", 15: "\u202fP"}[power]
    decimals = max(0, power - math.floor(math.log10(step) + 1e-9)) if step else 0
    return [f"{v / 10**power:.{decimals}f}{prefix}".replace("-", MINUS) if v else "0" for v in values]


def _tidy(shown: str) -> str:
    head, _, tail = shown.partition("\u202f")
    head = head.rstrip("0").rstrip(".") if "." in head else head
    return head + ("\u202f" + tail if tail else "")
