"""Horizontal bars with interval whiskers: how scores compare."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bloomery.draw import svg
from bloomery.draw.numbers import number
from bloomery.draw.scales import Scale

ROW = 30  # pixels of a bar with its name beside it


@dataclass(frozen=True)
class Bar:
    """One value with the ends of its interval (None: no interval); `main` is what the chart is about."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    main: bool = False
    shown: str = ""  # the value in its own unit; empty: three digits


def bar_chart(bars: Sequence[Bar], *, label: str, unit: str = "", width: int = 520) -> str:
    """An svg with a row per bar in the order given: name, bar from zero, whisker, value. Narrow ones put the name above."""
    bars = [b for b in bars if math.isfinite(b.value)]
    stacked = width < 420
    row = 46 if stacked else ROW
    values = [b.shown or number(b.value) for b in bars]
    room = max((svg.measure(v, 13) for v in values), default=30) + 12
    left = 0.0 if stacked else min(width * 0.36, max((svg.measure(b.name, 13) for b in bars), default=0) + 16)
    ends = [v for b in bars for v in (0.0, b.value, b.low, b.high) if v is not None and math.isfinite(v)]
    across = Scale(min(ends, default=0.0), max(ends, default=1.0) or 1.0, left, width - room)
    parts = []
    for i, (bar, shown) in enumerate(zip(bars, values, strict=True)):
        parts.append(_row(bar, shown, i * row, stacked, left, across, width, unit))
    zero = across(0)
    if not stacked:
        parts.append(svg.tag("line", x1=zero, x2=zero, y1=0, y2=max(1, len(bars)) * row, class_="axis"))
    return svg.picture(width, max(1, len(bars)) * row, label, *parts, kind="bars")


def _row(bar: Bar, shown: str, y: float, stacked: bool, left: float, across: Scale, width: float, unit: str) -> str:
    middle = y + (30 if stacked else 15)
    room = width - svg.measure(shown, 13) - 16 if stacked else left - 14
    class_ = " main" if bar.main else ""
    start, stop = sorted((across(0), across(bar.value)))
    words = f"{bar.name}: {number(bar.value, 4)} {unit}".rstrip()
    if _has_interval(bar):
        words += f", interval {number(bar.low or 0, 4)} to {number(bar.high or 0, 4)}"
    parts = [
        svg.title(words),
        svg.text(svg.fit(bar.name, room, 13), 0 if stacked else left - 12, y + 16 if stacked else middle + 4.5, "name" + class_,
                 "start" if stacked else "end"),
        svg.tag("rect", x=start, y=middle - 8, width=max(1.0, stop - start), height=16, class_="bar" + class_),
    ]  # fmt: skip
    if _has_interval(bar):
        low, high = across(bar.low or 0), across(bar.high or 0)
        if high - low >= 1:
            parts += [svg.tag("line", x1=low, x2=high, y1=middle, y2=middle, class_="whisker")]
            parts += [svg.tag("line", x1=x, x2=x, y1=middle - 4, y2=middle + 4, class_="whisker") for x in (low, high)]
    parts.append(svg.text(shown, width, middle + 4.5, "value" + class_, "end"))
    return svg.tag("g", *parts)


def _has_interval(bar: Bar) -> bool:
    return bar.low is not None and bar.high is not None and math.isfinite(bar.low) and math.isfinite(bar.high)
