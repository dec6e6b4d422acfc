"""Models side by side: a table of scores with intervals and clean twins, bars, paired differences, curves over training, and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bloomery.draw import svg
from bloomery.draw.bars import Bar, bar_chart
from bloomery.draw.cards import real
from bloomery.draw.contests import Contender, over_training
from bloomery.draw.intervals import Change, interval_chart
from bloomery.draw.numbers import DASH, count, number, seconds, si
from bloomery.draw.page import markup
from bloomery.draw.scores import clean_words, points, shown, shown_change

HARNESS = "lm_eval."
LEVEL = 0.05  # of the adjusted p-value below which a difference is said to be one
Row = Mapping[str, Any]


def comparison(found: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the page compare.html.j2, of what `lab.evaluations.compared` gives."""
    models = list(found["models"])
    heads = [str(one["name"]) for one in models]
    scores = [row for row in found["scores"] if row["task"] not in ("speed", "size")]
    return {
        "heads": heads,
        "costs": _costs(models, found["scores"]),
        "texts": [(one["name"], _text(one)) for one in models],
        "rows": [_row(row) for row in scores],
        "twins": any(clean_words(cell) for row in scores for cell in row["values"] if cell),
        "bars": [_bars(row, heads) for row in scores if not row["subject"]],
        "differences": _differences(found["differences"]),
        "told": multiple(found["differences"]),
        "table": [_difference(one) for one in found["differences"]],
        "curves": [_curve(one) for one in found["curves"]],
    }


def multiple(rows: Sequence[Row]) -> str:
    """How many differences there are, how many of them chance alone would single out, and how many stand after the correction."""
    tested = [one for one in rows if one["adjusted"] is not None]
    if not tested:
        return ""
    alone = sum(one["p"] < LEVEL for one in tested)
    stand = sum(one["adjusted"] < LEVEL for one in tested)
    expected = number(LEVEL * len(tested), 2)
    return (
        f"{len(tested)} differences are compared with zero; where none is real, about {expected} intervals leave zero out by chance. "
        f"Found beyond it: {alone} one by one, {stand} after Holm's correction for {len(tested)} comparisons (adjusted p below {LEVEL:g})."
    )


# ---- scores


def _row(row: Row) -> dict[str, Any]:
    """One figure of all models; the best is marked where one side is better and not all are equal."""
    values = [real(cell["value"]) if cell else None for cell in row["values"]]
    known = [value for value in values if value is not None]
    best = None if not row["better"] or len(set(known)) < 2 else min(known) if row["better"] == "lower" else max(known)
    name = row["metric"].replace("_", " ")
    task = _of(row["task"])
    cells = [{**_cell(cell), "best": value is not None and value == best} for cell, value in zip(row["values"], values, strict=True)]
    return {"metric": name, "task": "" if task == name else task, "subject": row["subject"], "better": row["better"], "cells": cells}


def _of(task: str) -> str:
    """A task's name in words; that of one of lm-eval stays as it is."""
    return f"{task.removeprefix(HARNESS)} of lm-eval" if task.startswith(HARNESS) else task.replace("_", " ")


def _cell(cell: Row | None) -> dict[str, str]:
    if cell is None:
        return {"value": DASH, "ends": "", "clean": "", "n": ""}
    return {"value": shown(cell, cell["value"]), "ends": _ends(cell, "low", "high"), "clean": clean_words(cell), "n": count(cell["n"])}


def _ends(cell: Row, low: str, high: str) -> str:
    if real(cell.get(low)) is None or real(cell.get(high)) is None:
        return ""
    return f"{shown(cell, cell[low])} to {shown(cell, cell[high])}"


def _bars(row: Row, heads: Sequence[str]) -> dict[str, Any]:
    name = row["metric"].replace("_", " ")
    best = [cell["best"] for cell in _row(row)["cells"]]
    bars = [
        Bar(head, cell["value"], cell["low"], cell["high"], first, shown(cell, cell["value"]))
        for head, cell, first in zip(heads, row["values"], best, strict=True)
        if cell and real(cell["value"]) is not None
    ]
    label = f"{name}: " + ", ".join(f"{bar.name} {bar.shown}" for bar in bars)
    drawn = svg.fluid(lambda width: bar_chart(bars, label=label, unit=row["unit"], width=width), *svg.HALF)
    note = ", ".join(part for part in (_of(row["task"]), f"{row['better']} is better" if row["better"] else "") if part)
    return {"name": name[:1].upper() + name[1:], "note": note, "chart": markup(drawn)}


def _text(one: Row) -> str:
    """What is known of a model's training text."""
    known = one.get("training_text") or {"known": "no", "from": [], "missing": []}
    texts, missing = ", ".join(known["from"]), "; ".join(known["missing"])
    if known["known"] == "no":
        return f"not at hand{f': {missing}' if missing else ''}, so there are no clean twins"
    return texts + (f"; more is not known: {missing}" if missing else "")


# ---- cost

COSTS = (
    ("parameters", "Parameters", si), ("trained_tokens", "Tokens trained on", si), ("training_seconds", "Seconds of training", seconds),
    ("seconds", "Seconds of the evaluation", seconds), ("items", "Items", count), ("requests", "Requests of lm-eval", count),
    ("tokens_read", "Tokens read by its own tasks", si), ("tokens_written", "Tokens written", si),
)  # fmt: skip


def _costs(models: Sequence[Row], scores: Sequence[Row]) -> list[dict[str, Any]]:
    """What each model and its evaluation cost, then speed and size as they were measured; rows that none has are left out."""
    rows = [{"name": name, "cells": [_told(one.get(key), words) for one in models]} for key, name, words in COSTS]
    for row in (row for row in scores if row["task"] in ("speed", "size")):
        of = f", {row['subject']}" if row["subject"] else ""
        cells = [shown(cell, cell["value"]) if cell else DASH for cell in row["values"]]
        rows.append({"name": row["metric"].replace("_", " ").capitalize() + of, "cells": cells})
    return [row for row in rows if any(cell not in (DASH, "0") for cell in row["cells"])]


def _told(value: Any, words: Any) -> str:
    return DASH if real(value) is None else words(float(value))


# ---- differences and curves


def _differences(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """An interval plot for each unit and better side."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if real(row["value"]) is not None:
            groups.setdefault((row["unit"], row["better"]), []).append(row)
    widths = svg.FULL if len(groups) == 1 else svg.HALF
    return [_intervals(unit, better, members, widths) for (unit, better), members in groups.items()]


def _intervals(unit: str, better: str, rows: Sequence[Row], widths: tuple[int, ...]) -> dict[str, Any]:
    scale = 100.0 if unit == "share" else 1.0
    several = len({row["model"] for row in rows}) > 1
    changes = []
    for row in rows:
        name = row["metric"].replace("_", " ") + (f", {row['model']}" if several else "")
        ends = [row[end] * scale if row[end] is not None else None for end in ("low", "high")]
        changes.append(Change(name, row["value"] * scale, *ends, shown_change(row, row["value"]), _span(row)))
    words = {"share": "percentage points", "": "score"}.get(unit, unit)
    label = f"Differences in {words}: " + "; ".join(f"{one.name} {one.shown} {one.ends}" for one in changes)
    drawn = svg.fluid(lambda width: interval_chart(changes, label=label, better=better, width=width), *widths)
    models = " and ".join(dict.fromkeys(row["model"] for row in rows)) if len({row["model"] for row in rows}) < 3 else "each model"
    return {"name": f"Difference in {words}", "note": f"{models} minus {rows[0]['minus']}, item by item", "chart": markup(drawn)}


def _span(row: Row, low: str = "low", high: str = "high") -> str:
    if row[low] is None or row[high] is None:
        return ""
    if row["unit"] == "share":
        return f"({points(row[low])} to {points(row[high])})"
    return f"({shown_change(row, row[low])} to {shown_change(row, row[high])})"


def _difference(row: Row) -> dict[str, Any]:
    adjusted = row["adjusted"]
    clean = "" if row["clean"] is None else f"{shown_change(row, row['clean'])} {_span(row, 'clean_low', 'clean_high')}".rstrip()
    side = "" if adjusted is None or adjusted >= LEVEL or not row["better"] else "good" if _gains(row) else "bad"
    return {
        "model": row["model"], "minus": row["minus"], "metric": row["metric"].replace("_", " "), "task": _of(row["task"]),
        "value": shown_change(row, row["value"]), "ends": _span(row), "clean": clean, "n": count(row["n"]), "side": side,
        "p": DASH if row["p"] is None else _small(row["p"]), "adjusted": DASH if adjusted is None else _small(adjusted),
    }  # fmt: skip


def _gains(row: Row) -> bool:
    return (row["value"] > 0) == (row["better"] == "higher")


def _small(p: float) -> str:
    return "<\u202f0.001" if p < 0.001 else f"{p:.3f}"


def _curve(one: Row) -> dict[str, Any]:
    contenders = [Contender(series["name"], [tuple(point[:3]) for point in series["points"]]) for series in one["series"]]
    name = one["metric"].replace("_", " ")
    unit = one["unit"] or name
    note = ", ".join(part for part in (_of(one["task"]), f"{one['better']} is better" if one["better"] else "") if part)
    drawn = svg.fluid(lambda width: over_training(contenders, name, unit, width), *svg.HALF)
    return {"name": name[:1].upper() + name[1:], "note": note, "chart": markup(drawn)}
