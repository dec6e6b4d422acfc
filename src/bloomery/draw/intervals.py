"""Changes as intervals around a marked zero: which way each went, and whether its interval leaves zero out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.draw import svg
from bloomery.draw.scales import Scale, labels

ROW, HEAD, FOOT = 40.0, 24.0, 26.0


@dataclass(frozen=True)
class Change:
    """A difference with the ends of its interval (None: no interval); `shown` and `ends` are its words."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    shown: str = ""
    ends: str = ""
    sides: str = ""  # before and after, in words


def verdict(change: Change, better: str) -> str:
    """gain or loss where the whole interval lies on one side of zero, even where it does not or no side is better."""
    low, high = sorted((_or(change.low, change.value), _or(change.high, change.value)))
    if not better or low <= 0 <= high:
        return "even"
    return "gain" if (low > 0) == (better == "higher") else "loss"


def interval_chart(changes: Sequence[Change], *, label: str, better: str = "", width: int = 520) -> str:
    """An svg with a row per change in one unit: name, interval over the zero line, words. `better` is lower, higher or empty."""
    changes = [c for c in changes if math.isfinite(c.value)]
    stacked = width < 420
    row = 66.0 if stacked else ROW
    tail = max((max(svg.measure(c.shown, 13), svg.measure(c.ends)) for c in changes), default=0.0) + 14
    left = (
        0.0 if stacked else min(width * 0.4, max((max(svg.measure(c.name, 13), svg.measure(c.sides)) for c in changes), default=0.0) + 18)
    )
    right = width if stacked else width - tail
    across = Scale(*_range(changes), left + 4, right - 4)
    bottom = HEAD + row * max(1, len(changes))
    parts = [*_head(better, across, left, right), *_foot(across, bottom, left, right)]
    lanes = [(HEAD + i * row + 40, HEAD + (i + 1) * row) for i in range(len(changes))] if stacked else [(HEAD - 4, bottom)]
    parts += [svg.tag("line", x1=across(0), x2=across(0), y1=a, y2=b, class_="zero") for a, b in lanes]
    for i, change in enumerate(changes):
        parts.append(_row(change, better, HEAD + i * row, stacked, left, across, width))
    return svg.picture(width, bottom + FOOT, label, *parts, kind="intervals")


def _or(value: float | None, other: float) -> float:
    return other if value is None or not math.isfinite(value) else value


def _range(changes: Sequence[Change]) -> tuple[float, float]:
    """All ends and zero, with at least a fifth of the width on each side of zero, so that both sides can be named."""
    ends = [0.0, *(v for c in changes for v in (c.value, _or(c.low, c.value), _or(c.high, c.value)))]
    low, high = min(ends), max(ends)
    room = (high - low) or 1.0
    return min(low - 0.06 * room, -0.22 * room), max(high + 0.06 * room, 0.22 * room)


def _head(better: str, across: Scale, left: float, right: float) -> Iterator[str]:
    """The two sides by name, each beside the zero line."""
    if better in ("lower", "higher"):
        sides = ("better", "worse") if better == "lower" else ("worse", "better")
        yield svg.text(f"← {sides[0]}", across(0) - 8, 12, "unit", "end")
        yield svg.text(f"{sides[1]} →", across(0) + 8, 12, "unit")


def _foot(across: Scale, bottom: float, left: float, right: float) -> Iterator[str]:
    yield svg.tag("line", x1=left, x2=right, y1=bottom, y2=bottom, class_="axis")
    marks = across.ticks(max(2, int((right - left) // 70)))
    for mark, shown in zip(marks, labels(marks), strict=True):
        x, half = across(mark), svg.measure(shown) / 2
        if left <= x - half and x + half <= right:
            yield svg.tag("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="axis")
            yield svg.text(shown, x, bottom + 19, "name" if mark == 0 else "tick x", "middle")


def _row(change: Change, better: str, y: float, stacked: bool, left: float, across: Scale, width: float) -> str:
    """Name over both sides at the left, value over its ends at the right, the interval between them, or below where it is narrow."""
    middle = y + (52.0 if stacked else ROW / 2)
    base = y + 25.0 if stacked else middle + 4.5
    tone = verdict(change, better)
    words = f"{change.name}: {change.sides} {change.shown} {change.ends}".rstrip()
    raised, room = (8.0 if change.sides else 0.0, 8.0 if change.ends else 0.0), width * 0.6 if stacked else left - 14
    parts = [
        svg.title(words), svg.text(svg.fit(change.name, room, 13), 0, base - raised[0], "name"),
        svg.text(change.shown, width, base - raised[1], f"value {tone}", "end"),
    ]  # fmt: skip
    parts += [svg.text(svg.fit(change.sides, room), 0, base + 8, "soft")] if change.sides else []
    parts += [svg.text(change.ends, width, base + 8, "soft", "end")] if change.ends else []
    low, high = across(_or(change.low, change.value)), across(_or(change.high, change.value))
    if high - low >= 1:
        parts.append(svg.tag("line", x1=low, x2=high, y1=middle, y2=middle, class_=f"span {tone}"))
        parts += [svg.tag("line", x1=x, x2=x, y1=middle - 5, y2=middle + 5, class_=f"span {tone}") for x in (low, high)]
    parts.append(svg.tag("circle", cx=across(change.value), cy=middle, r=4.5, class_=f"mark {tone}"))
    return svg.tag("g", *parts)
