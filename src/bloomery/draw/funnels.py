"""The funnel: what was read, what each reason took away, what is left. A waterfall whose pieces add up to the first bar."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bloomery.draw import svg
from bloomery.draw.numbers import MINUS, count, percent, size


@dataclass(frozen=True)
class Stratum:
    """One row: `part` is "in", "drop" or "out"."""

    part: str
    name: str
    documents: int
    bytes: int
    note: str = ""


def strata(funnel: Mapping[str, Any]) -> list[Stratum]:
    """The rows of a funnel.json in the order shown: read, one per reason, then what is left by destination."""
    rows = [Stratum("in", "read", int(funnel["in"]["documents"]), int(funnel["in"]["bytes"]))]
    rows += [Stratum("drop", str(s["reason"]), int(s["documents"]), int(s["bytes"]), str(s.get("note") or "")) for s in funnel["steps"]]
    names = {"train": "kept to train on", "heldout": "kept, held out"}
    rows += [Stratum("out", names.get(k, f"kept, {k}"), int(v["documents"]), int(v["bytes"])) for k, v in funnel["out"].items()]
    return rows


def unaccounted(rows: Sequence[Stratum]) -> tuple[int, int]:
    """Documents and bytes read, less those dropped and those kept: (0, 0) where the funnel adds up."""
    sign = {"in": 1, "drop": -1, "out": -1}
    return sum(sign[r.part] * r.documents for r in rows), sum(sign[r.part] * r.bytes for r in rows)


def funnel_chart(rows: Sequence[Stratum], *, label: str, width: int = 700) -> str:
    """An svg with a row per stratum: name, bar by bytes where it lies in the whole, documents, bytes, share of bytes."""
    stacked = width < 600
    row = 40 if stacked else 28
    share = [percent(abs(r.bytes) / max(1, rows[0].bytes)) for r in rows]
    shown = [(_signed(r, r.documents, count), _signed(r, r.bytes, size), part) for r, part in zip(rows, share, strict=True)]
    heads = ("documents", "bytes", "share") if not stacked else ("documents", "bytes", "")
    widths = [max(svg.measure(s[i]) for s in [*shown, heads]) + 16 for i in range(3)]
    if stacked:
        widths[2] = 0.0
    left = 0.0 if stacked else min(width * 0.36, max(svg.measure(r.name, 13) for r in rows) + 20)
    right = width if stacked else width - sum(widths)
    columns = [width - widths[2] - widths[1], width - widths[2], width]
    parts = [svg.text(h, x, 12, "unit", "end") for h, x in zip(heads, columns, strict=True) if h]
    whole, at, y = max(1, rows[0].bytes), float(rows[0].bytes), 20.0
    for place, (one, words) in enumerate(zip(rows, shown, strict=True)):
        start, stop = _extent(one, place, rows, at)
        at -= one.bytes if one.part == "drop" else 0
        bar = (left + (right - left) * start / whole, left + (right - left) * stop / whole)
        parts.append(_stratum(one, words, y, row, stacked, left, bar, columns, widths))
        if place + 1 < len(rows) and (one.part == "drop") != (rows[place + 1].part == "drop"):
            parts.append(svg.tag("line", x1=0, x2=width, y1=y + row + 3, y2=y + row + 3, class_="grid"))
            y += 6
        y += row
    return svg.picture(width, y + 2, label, *parts, kind="funnel")


def _signed(one: Stratum, value: int, words: Callable[[float], str]) -> str:
    """What a row does to what is left: a drop takes away, and edits that make text longer (a negative drop) add."""
    if one.part != "drop" or not value:
        return words(value)
    return (MINUS if value > 0 else "+") + words(abs(value))


def _extent(one: Stratum, place: int, rows: Sequence[Stratum], at: float) -> tuple[float, float]:
    """Where the row's bytes lie, from the left: drops eat from the right, the kept parts lie side by side."""
    if one.part == "in":
        return 0.0, float(one.bytes)
    if one.part == "drop":
        return (max(0.0, at - one.bytes), at) if one.bytes >= 0 else (at, min(float(rows[0].bytes), at - one.bytes))
    before = sum(r.bytes for r in rows[:place] if r.part == "out")
    return float(before), float(before + one.bytes)


def _stratum(
    one: Stratum, words: Sequence[str], y: float, row: float, stacked: bool, left: float, bar: tuple[float, float],
    columns: Sequence[float], widths: Sequence[float],
) -> str:  # fmt: skip
    base = y + (15 if stacked else row / 2 + 4.5)
    top, tall = (y + 21, 12.0) if stacked else (y + 5, row - 10)
    room = columns[0] - widths[0] if stacked else left - 16
    idle = " none" if not (one.documents or one.bytes) else ""
    parts = [
        svg.title(f"{one.name}: {count(one.documents)} documents, {count(one.bytes)} bytes{'. ' + one.note if one.note else ''}"),
        svg.text(svg.fit(one.name, room, 13), 0, base, f"name{idle}"),
    ]
    if bar[1] > bar[0]:
        start, wide = min(bar[0], bar[1] - 1), max(1.0, bar[1] - bar[0])
        if one.part == "drop" and bar[0] > left:
            parts.append(svg.tag("rect", x=left, y=top, width=bar[0] - left, height=tall, class_="rest"))
        parts.append(svg.tag("rect", x=start, y=top, width=wide, height=tall, class_=f"piece {one.part}"))
    for i, shown in enumerate(words):
        if widths[i]:
            parts.append(svg.text(shown, columns[i], base, f"value{idle}", "end"))
    return svg.tag("g", *parts)
