"""Before and after: measures that the same items give for two models, as paired differences, and models side by side.

Rows of scores.json named `<metric>_change` hold the difference after minus before with its interval, `<metric>_change_from_<way>`
that from the model before asked in another way; rows of the metric itself hold the sides: model, before, and `before, <way>`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bloomery.draw import svg
from bloomery.draw.cards import real
from bloomery.draw.intervals import Change, interval_chart, verdict
from bloomery.draw.numbers import DASH, signed
from bloomery.draw.page import markup
from bloomery.draw.scores import CHANGE, Contest, clean_words, measure, points, shown, shown_change

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Pair:
    """One measure before and after, in words; `start` is the value before, `better` the better side."""

    metric: str
    before: str
    after: str
    shown: str
    ends: str
    start: float
    better: str

    @property
    def name(self) -> str:
        return self.metric.replace("_", " ")


def differences(rows: Sequence[Row]) -> list[Row]:
    """The rows that are paired differences with a value."""
    return [r for r in rows if CHANGE.search(str(r.get("metric", ""))) and real(r.get("value")) is not None]


def base(row: Row) -> tuple[str, str]:
    """The metric that a difference is of, and the subject that it is from."""
    metric = str(row.get("metric", ""))
    found = CHANGE.search(metric)
    against = (found[1] or "").replace("_", " ") if found else ""
    return CHANGE.sub("", metric), f"before, {against}" if against else "before"


def pair(change: Row, rows: Sequence[Row]) -> Pair | None:
    """Both sides of a difference, where the rows have them."""
    metric, subject = base(change)
    sides = [r for r in rows if r.get("metric") == metric and r.get("task") == change.get("task") and real(r.get("value")) is not None]
    before = next((r for r in sides if str(r.get("subject")) == subject), None)
    after = next((r for r in sides if str(r.get("subject")) == "model"), None)
    if before is None or after is None:
        return None
    words = [shown(r, r["value"]) for r in (before, after)]
    return Pair(metric, *words, shown_change(change, change["value"]), _ends(change, True), float(before["value"]), better_of(change))


def pairs(rows: Sequence[Row]) -> list[Pair]:
    """Both sides of every measure that has them, against the better of several befores, so that none is a straw man."""
    best: dict[tuple[str, str], Pair] = {}
    for change in differences(rows):
        if one := pair(change, rows):
            known = best.get(key := (str(change.get("task")), one.metric))
            if known is None or (one.start < known.start if one.better == "lower" else one.start > known.start):
                best[key] = one
    return list(best.values())


def _ends(row: Row, words: bool = False) -> str:
    low, high = real(row.get("low")), real(row.get("high"))
    if low is None or high is None:
        return ""
    told = points if row.get("unit") == "share" else signed
    said = f"{told(low)} to {told(high)}"
    return said if words else f"({said})"


def better_of(row: Row) -> str:
    """Which way is better for a difference: as said, else as for its metric."""
    metric = base(row)[0]
    return str(row.get("better") or "") or Contest("", metric, ({**row, "metric": metric},)).better


def charts(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """An interval plot for each unit and better side; differences of shares are in percentage points."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in differences(rows):
        groups.setdefault((str(row.get("unit") or ""), better_of(row)), []).append(row)
    widths = svg.FULL if len(groups) == 1 else svg.HALF
    return [_chart(unit, better, members, rows, widths) for (unit, better), members in groups.items()]


def _chart(unit: str, better: str, rows: Sequence[Row], every: Sequence[Row], widths: tuple[int, ...]) -> dict[str, Any]:
    scale = 100.0 if unit == "share" else 1.0
    names = [_name(r) for r in rows]
    found = []
    for name, row in zip(names, rows, strict=True):
        ends = [v * scale if (v := real(row.get(k))) is not None else None for k in ("low", "high")]
        both = pair(row, every)
        way = base(row)[1].removeprefix("before").removeprefix(", ")
        sides = f"{both.before}{f' in {way}' if way else ''} → {both.after}" if both else f"from {way}" if way else ""
        name = (
            name if len({str(r.get("task")) for r, n in zip(rows, names, strict=True) if n == name}) == 1 else f"{name}, {row.get('task')}"
        )
        found.append(Change(name, row["value"] * scale, *ends, shown_change(row, row["value"]), _ends(row), sides))
    unit_words = {"share": "percentage points", "": "change"}.get(unit, unit)
    sides = [verdict(c, better) for c in found]
    said = (
        [f"{sides.count(k)} {word}" for k, word in (("gain", "better"), ("loss", "worse"), ("even", "undecided")) if k in sides]
        if better
        else []
    )
    label = f"Change in {unit_words}: " + "; ".join(f"{c.name} {c.shown} {c.ends}" for c in found)
    drawn = svg.fluid(lambda width: interval_chart(found, label=label, better=better, width=width), *widths)
    note = f"after minus before, on the same items; {', '.join(said)}" if said else "after minus before, on the same items"
    return {"name": f"Change in {unit_words}", "note": note, "chart": markup(drawn)}


def _name(row: Row) -> str:
    return base(row)[0].replace("_", " ")


def comparison(evaluations: Sequence[tuple[str, Sequence[Row]]]) -> dict[str, Any] | None:
    """Models side by side: measures of the subject model that more than one evaluation has; None where there is none."""
    tables: list[dict[tuple[str, str], Row]] = [
        {(str(r.get("task", "")), str(r.get("metric", ""))): r for r in rows
         if r.get("subject") == "model" and real(r.get("value")) is not None and not CHANGE.search(str(r.get("metric", "")))}
        for _, rows in evaluations
    ]  # fmt: skip
    keys = [k for k in dict.fromkeys(k for table in tables for k in table) if sum(k in table for table in tables) > 1]
    keys.sort(key=lambda k: k[0] in ("size", "speed"))  # what it costs after what it is worth
    if not keys:
        return None
    rows = []
    for task, metric in keys:
        cells = [_cell(table.get((task, metric))) for table in tables]
        some = next(table[task, metric] for table in tables if (task, metric) in table)
        better = Contest("", metric, (some,)).better
        named = measure(some, [row for table in tables for row in table.values()]).replace("_", " ")
        rows.append({"metric": named, "better": better, "cells": cells})
    return {"heads": [name for name, _ in evaluations], "rows": rows}


def _cell(row: Row | None) -> dict[str, str]:
    if row is None:
        return {"value": DASH, "ends": "", "clean": ""}
    low, high = real(row.get("low")), real(row.get("high"))
    ends = "" if low is None or high is None else f"{shown(row, low)} to {shown(row, high)}"
    return {"value": shown(row, row["value"]), "ends": ends, "clean": clean_words(row)}
