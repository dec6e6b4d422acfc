"""The funnel and histograms of a corpus as lines of text."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from bloomery.draw.funnels import Stratum
from bloomery.draw.histograms import Limit, limit_text
from bloomery.draw.numbers import MINUS, count, number, percent, size

BLOCKS = " ▁▂▃▄▅▆▇█"


def funnel_lines(rows: Sequence[Stratum], wide: int = 40) -> list[str]:
    """One line a stratum: name, a bar by bytes where it lies in the whole, documents, bytes, share of bytes."""
    whole, at, begin = max(1, rows[0].bytes), float(rows[0].bytes), 0.0
    name = max(len(row.name) for row in rows)
    lines = []
    for row in rows:
        start, stop = (max(0.0, at - row.bytes), at) if row.part == "drop" else (0.0, float(row.bytes))
        if row.part == "out":
            start, stop = begin, begin + row.bytes
            begin = stop
        at -= row.bytes if row.part == "drop" else 0
        bar = _bar(start / whole, stop / whole, wide, "░" if row.part == "drop" else "█")
        sign = (MINUS if row.bytes >= 0 else "+") if row.part == "drop" and (row.documents or row.bytes) else ""
        shown = f"{sign}{count(abs(row.documents)):>9} {sign}{size(abs(row.bytes)):>9} {percent(abs(row.bytes) / whole):>6}"
        lines.append(f"{row.name:<{name}} |{bar}| {shown}")
    return lines


def _bar(start: float, stop: float, wide: int, block: str) -> str:
    """A bar from one share of the width to another; whatever is there has at least one block."""
    first, last = min(wide - 1, int(start * wide + 0.5)), int(stop * wide + 0.5)
    length = max(1, last - first) if stop > start else 0
    return (" " * first + block * length)[:wide].ljust(wide)


def histogram_lines(spread: Mapping[str, Any], tall: int = 3) -> list[str]:
    """A histogram of documents over one number: kept as full blocks, what was dropped counted below, limits marked under the axis.

    `spread` has name, edges, kept, dropped, log and limits [(sign, value)].
    """
    edges, kept, dropped = spread["edges"], spread["kept"], spread["dropped"]
    highest = max(max(kept), max(dropped), 1)
    limits = [Limit(sign, value) for sign, value in spread["limits"]]
    words = ", ".join(f"kept where {limit_text(one)}" for one in limits)
    about = "; ".join(part for part in (words, "logarithmic" if spread["log"] else "") if part)
    lines = [f"{spread['name']}{f' ({about})' if about else ''}"]
    lines += [f"  {'kept' if row == 0 else '':<8}{text}" for row, text in enumerate(_columns(kept, highest, tall))]
    if any(dropped):
        lines += [f"  {'dropped' if row == 0 else '':<8}{text}" for row, text in enumerate(_columns(dropped, highest, tall))]
    marks = [" "] * len(kept)
    for one in limits:
        marks[min(max(bisect_right(edges, one.value) - 1, 0), len(marks) - 1)] = "▲"
    if limits:
        lines.append(" " * 10 + "".join(marks))
    low, high = number(edges[0]), number(edges[-1])
    lines.append(" " * 10 + low + high.rjust(max(1, len(kept) - len(low))))
    return lines


def _columns(counts: Sequence[int], highest: int, tall: int) -> list[str]:
    """Counts as columns of `tall` lines; a lone document still shows."""
    levels = [max(1, round(8 * tall * one / highest)) if one else 0 for one in counts]
    return ["".join(BLOCKS[min(8, max(0, level - 8 * row))] for level in levels) for row in reversed(range(tall))]


def sample_lines(limit: Mapping[str, Any], wide: int = 100) -> list[str]:
    """The documents on either side of a threshold, each with its value and how it begins."""
    lines = [f"{limit['column']} {limit['sign']} {limit['value']:g}"]
    for side in ("kept", "dropped"):
        for one in limit[side]:
            begins = " ".join(one["text"].split())
            begins = begins if len(begins) <= wide else begins[: wide - 1] + "…"
            lines += [f"  {side:<8}{number(one['value'])}  {one['path'] or one['id']}", f"          {begins}"]
        if not limit[side]:
            lines.append(f"  {side:<8}none")
    return lines
