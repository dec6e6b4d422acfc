"""Where a compressed copy errs: a field of its linears by block, on one scale for all copies, and what was left alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bloomery.draw import svg
from bloomery.draw.cards import Card, facts, names, real
from bloomery.draw.numbers import count, number
from bloomery.draw.page import markup
from bloomery.draw.strips import field

PLACE = re.compile(r"(?:^|.*\.)(?:blocks|layers|h)\.(\d+)\.(.+)$")
MEASURES = {"error": "relative error of the linear's output", "weight_error": "relative error of the weights"}


def fields(cards: Sequence[Card]) -> list[dict[str, Any]]:
    """One field for each card with the fact `layers` ([{name, bits, group, error, weight_error}]); `skipped` ({name: reason}) beside."""
    called = names(cards)
    shown = [(c, _rows(facts(c).get("layers"))) for c in cards]
    shown = [(c, rows) for c, rows in shown if rows or isinstance(facts(c).get("skipped"), Mapping)]
    full: dict[str, float] = {}
    for _, rows in shown:
        if rows:
            full[_measure(rows)] = max(
                [full.get(_measure(rows), 0.0), *(v for r in rows if (v := real(r.get(_measure(rows)))) is not None)]
            )
    return [_field(c, called[c["address"]], rows, full) for c, rows in shown]


def _rows(layers: Any) -> list[Mapping[str, Any]]:
    if not isinstance(layers, Sequence) or isinstance(layers, str):
        return []
    return [r for r in layers if isinstance(r, Mapping) and r.get("name") and any(real(r.get(m)) is not None for m in MEASURES)]


def _measure(rows: Sequence[Mapping[str, Any]]) -> str:
    """The error of outputs where linears have one, else that of the weights; one whose outputs were all zero may have none."""
    return "error" if any(real(r.get("error")) is not None for r in rows) else "weight_error"


def _field(card: Card, called: str, rows: Sequence[Mapping[str, Any]], full: Mapping[str, float]) -> dict[str, Any]:
    copy = facts(card).get("copy")
    label = str(copy.get("label") or "") if isinstance(copy, Mapping) else ""
    measure = _measure(rows) if rows else "error"
    linears: dict[str, None] = {}
    blocks: dict[int, None] = {}
    cells, others = {}, []
    for row in rows:
        value, place = real(row.get(measure)), PLACE.match(str(row["name"]))
        if value is None:
            continue
        if not place:
            others.append(f"{row['name']} {number(value, 2)}")
            continue
        linears[place[2]] = blocks[int(place[1])] = None
        cells[place[2], place[1]] = (value, _words(row))
    columns = [str(b) for b in sorted(blocks)]
    title = "; ".join(f"{name} of block {block} {number(v, 2)}" for (name, block), (v, _) in cells.items())

    def draw(width: int) -> str:
        return field(
            list(linears), columns, cells, label=f"{MEASURES[measure]}: {title}", over="block", full=full.get(measure, 0.0), width=width
        )

    return {
        "step": called, "label": label, "chart": markup(svg.fluid(draw, *svg.HALF)) if cells else "",
        "note": _note(rows, measure), "others": ", ".join(others), "skipped": _skipped(facts(card).get("skipped")),
    }  # fmt: skip


def _words(row: Mapping[str, Any]) -> str:
    parts = [str(row["name"])]
    parts += [f"{text} {number(v, 3)}" for m, text in MEASURES.items() if (v := real(row.get(m))) is not None]
    parts += [f"{count(v)} bits" if v.is_integer() else f"{number(v)} bits" for v in [real(row.get("bits"))] if v is not None]
    parts += [f"groups of {count(v)}" for v in [real(row.get("group"))] if v]
    return "\n".join(parts)


def _note(rows: Sequence[Mapping[str, Any]], measure: str) -> str:
    good = [(v, str(r["name"])) for r in rows if (v := real(r.get(measure))) is not None]
    if not good:
        return ""
    mean, (worst, name) = sum(v for v, _ in good) / len(good), max(good)
    bits = sorted({v for r in rows if (v := real(r.get("bits"))) is not None})
    said = f"{number(bits[0])}{f' to {number(bits[-1])}' if len(bits) > 1 else ''} bits; " if bits else ""
    return f"{said}{MEASURES[measure]}, mean {number(mean, 2)}, largest {number(worst, 2)} at {name}"


def _skipped(skipped: Any) -> list[dict[str, str]]:
    """What was left as it was, gathered by reason."""
    if not isinstance(skipped, Mapping):
        return []
    by: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        by.setdefault(str(reason), []).append(str(name))
    return [
        {"reason": reason, "names": ", ".join(members[:8]) + (f" and {count(len(members) - 8)} more" if len(members) > 8 else "")}
        for reason, members in by.items()
    ]
