"""What proving found: each comparison's paired difference with its interval, beside the range in which the claim would be true.

Units differ from row to row, so each row has a scale of its own, with zero, the baseline, in the middle of every lane.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bloomery.draw import svg
from bloomery.draw.numbers import DASH, THIN, number, si

TONES = {"holds": "gain", "refuted": "loss", "undecided": "even"}
WORDS = {"holds": "holds", "refuted": "does not hold", "undecided": "undecided"}
HEAD, TITLE, ROW, FOOT, EDGE = 46.0, 40.0, 44.0, 14.0, 16.0
Compared = Mapping[str, Any]


def value(number_or_none: float | None, unit: str, digits: int = 4) -> str:
    """A figure with its unit: bytes with a decimal prefix, others with `digits` digits."""
    if number_or_none is None:
        return DASH
    if unit == "bytes":
        return si(number_or_none, "B")
    rounded = float(f"{number_or_none:.{digits}g}") if abs(number_or_none) < 1 else number_or_none
    return number(rounded, digits) + (THIN + unit if unit else "")


def signed(number_or_none: float | None, unit: str, digits: int = 3) -> str:
    """The same with its sign."""
    if number_or_none is None:
        return DASH
    return ("+" if number_or_none > 0 else "") + value(number_or_none, unit, digits)


def arm(one: Compared, side: str, bare: bool = False) -> str:
    """Mean and, where it is not nothing, standard deviation over seeds; `bare` without the unit, but for bytes."""
    mean, spread, unit = one[f"mean_{side}"], one[f"spread_{side}"], one["unit"] if not bare or one["unit"] == "bytes" else ""
    if not spread or mean is None:
        return value(mean, unit)
    return f"{value(mean, unit if unit == 'bytes' else '')} ± {value(spread, unit, 2)}"


def ends(one: Compared) -> str:
    """The interval in words; "exact" where there is nothing to be uncertain of."""
    if one["low"] is None or one["high"] is None:
        return "no interval" if one["difference"] is not None else DASH
    return "exact" if one["low"] == one["high"] else f"{signed(one['low'], '')} to {signed(one['high'], '')}"


def asked(one: Compared) -> str:
    """What the difference must be."""
    margin = one["margin"]
    if one["relation"] == "near":
        return f"within ±{value(margin, one['unit'], 3)}"
    limit = -margin if one["relation"] == "less" else margin
    return f"{'below' if one['relation'] == 'less' else 'above'} {value(limit, one['unit'], 3) if margin else '0'}"


def columns(one: Compared) -> tuple[str, ...]:
    """A comparison as a row of a table: what, ours, baseline, difference, interval, asked, outcome."""
    return (
        one["what"],
        arm(one, "ours"),
        arm(one, "baseline"),
        signed(one["difference"], one["unit"]),
        ends(one),
        asked(one),
        WORDS[one["outcome"]],
    )


def evidence_chart(groups: Sequence[tuple[str, str, Sequence[Compared]]], *, label: str, width: int = 900) -> str:
    """An svg of groups (title, verdict, comparisons): the title over a row for each comparison."""
    lane = (width * 0.46, width * 0.72)
    parts, y = [*_head(lane)], HEAD
    for name, verdict, compared in groups:
        tone = {"holds": "gain", "undecided": "even"}.get(verdict, "loss")
        parts.append(svg.text(svg.fit(name, lane[1] - EDGE, 13), EDGE, y + 24, "name main"))
        parts.append(svg.text(verdict, width - EDGE, y + 24, f"value {tone}", "end"))
        parts.append(svg.tag("line", x1=EDGE, x2=width - EDGE, y1=y + 34, y2=y + 34, class_="grid"))
        y += TITLE
        for one in compared:
            parts.append(_row(one, y, lane, width))
            y += ROW
    back = svg.tag("rect", x=0, y=0, width=width, height=y + FOOT, rx=8, style="fill:var(--paper)")
    return svg.picture(width, y + FOOT, label, back, *parts, kind="evidence")


def _head(lane: tuple[float, float]) -> list[str]:
    """What the two sides of the lanes and the shading mean."""
    middle = sum(lane) / 2
    return [
        svg.text("← below the baseline", middle - 8, 20, "unit", "end"),
        svg.text("above the baseline →", middle + 8, 20, "unit"),
        svg.tag("rect", x=middle - 150, y=29, width=26, height=11, class_="rest"),
        svg.text("where the claim is true; each row has a scale of its own", middle - 118, 39, "soft"),
    ]  # fmt: skip


def _row(one: Compared, y: float, lane: tuple[float, float], width: float) -> str:
    """Name and both arms at the left, the interval over the shaded range, the difference at the right."""
    tone, middle, (left, right) = TONES[one["outcome"]], y + ROW / 2, lane
    cells = columns(one)
    room = left - EDGE - 18
    words = f"{cells[0]}: {cells[1]} against {cells[2]}, difference {cells[3]} ({cells[4]}), asked {cells[5]}: {cells[6]}"
    parts = [
        svg.title(words),
        svg.text(svg.fit(cells[0], room, 13), EDGE, middle - 3, "name"),
        svg.text(svg.fit(f"{arm(one, 'ours', True)} against {arm(one, 'baseline', True)}", room), EDGE, middle + 13, "soft"),
        svg.text(cells[3], width - EDGE, middle - 3, f"value {tone}", "end"),
        svg.text(cells[6] if cells[4] == DASH else f"{cells[4]}, {cells[6]}", width - EDGE, middle + 13, "soft", "end"),
    ]
    known = [abs(v) for v in (one["low"], one["high"], one["difference"]) if v is not None]
    reach = 1.12 * max([*known, abs(one["margin"])], default=0.0) or 1.0
    if one["difference"] is None:
        reach = abs(one["margin"]) * 2 or 1.0

    def place(v: float) -> float:
        return (left + right) / 2 + max(-1.0, min(1.0, v / reach)) * (right - left) / 2

    a, b = _true(one, reach)
    parts.append(svg.tag("rect", x=place(a), y=y + 5, width=max(place(b) - place(a), 2.0), height=ROW - 10, class_="rest"))
    parts.append(svg.tag("line", x1=place(0), x2=place(0), y1=y + 2, y2=y + ROW - 2, class_="zero"))
    if one["difference"] is None:
        return svg.tag("g", *parts, svg.text("no figure", place(0) + 8, middle + 4, "none"))
    low, high = (place(one["difference"] if v is None else v) for v in (one["low"], one["high"]))
    if high - low >= 1:
        parts.append(svg.tag("line", x1=low, x2=high, y1=middle, y2=middle, class_=f"span {tone}"))
        parts += [svg.tag("line", x1=x, x2=x, y1=middle - 5, y2=middle + 5, class_=f"span {tone}") for x in (low, high)]
    parts.append(svg.tag("circle", cx=place(one["difference"]), cy=middle, r=4.5, class_=f"mark {tone}"))
    return svg.tag("g", *parts)


def _true(one: Compared, reach: float) -> tuple[float, float]:
    """The differences with which the claim is true."""
    margin = one["margin"]
    return {"less": (-reach, -margin), "more": (margin, reach), "near": (-margin, margin)}[one["relation"]]
