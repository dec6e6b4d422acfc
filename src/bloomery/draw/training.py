"""Training curves of every step that trained: pretraining and tuning alike."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from bloomery.draw import svg
from bloomery.draw.cards import Card, facts, real
from bloomery.draw.lines import Level, Series, line_chart
from bloomery.draw.numbers import count, number, si
from bloomery.draw.page import markup
from bloomery.draw.scores import contests, headline_contest, is_before

Rows = Sequence[Mapping[str, Any]]


def model(card: Card, called: str, curve: Rows, levels: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """Held-out bits per byte beside other compressors, loss with its held-out twin, and in little: rate, gradient norm, speed."""
    found = facts(card)
    parts = [f"{si(found['parameters'])} parameters" if real(found.get("parameters")) else ""]
    parts += [f"{count(real(curve[-1].get('step')) or len(curve))} steps"] if curve else []
    parts += [f"{si(tokens)} tokens" if (tokens := real(curve[-1].get("tokens")) if curve else None) else ""]
    parts += [si(found["flops"], "FLOP") if real(found.get("flops")) else ""]
    line = ", ".join(p for p in parts if p) or "A model"
    held = _series(curve, "heldout_bpb", dots=True)
    widths = svg.HALF if held.points and any(r.get("loss") is not None for r in curve) else svg.FULL
    large = [
        _curve(
            [held], "Held-out bits per byte", "on documents that training never sees, logarithmic",
            "bits per byte", levels=levels, log=True, widths=widths,
        ),
        _loss(curve, widths),
    ]  # fmt: skip
    little = [
        _curve([_series(curve, "rate", tone=2)], "Learning rate", "peak {high}", "", small=True),
        _curve([_series(curve, "grad_norm", tone=2)], "Gradient norm", "last {last}", "", small=True),
        _curve([_series(curve, "tokens_per_second", tone=2)], "Speed", "tokens per second", "", small=True),
    ]
    return {"step": called, "line": line + ".", "large": [c for c in large if c], "little": [c for c in little if c]}


def _loss(curve: Rows, widths: tuple[int, ...]) -> dict[str, Any] | None:
    """The loss of the batches, and over it the same on held-out text where that was measured."""
    batch, held = _series(curve, "loss", "batch", 2), _series(curve, "heldout_nats", "held out", 1, dots=True)
    if not held.points:
        return _curve([batch], "Training loss", "cross-entropy of the batch", "nats per token", widths=widths)
    batch = Series(batch.name, batch.points, 2, faint=True)
    ends = f"held out {number(held.points[0][1])} to {number(held.points[-1][1])}"
    series = [held, batch] if batch.points else [held]
    return _curve(series, "Loss", f"of batches and of held-out text; {ends}", "nats per token", widths=widths)


def _series(curve: Rows, field: str, name: str = "", tone: int = 1, dots: bool = False) -> Series:
    points = [
        (float(r["step"]), float(r[field]))
        for r in curve
        if isinstance(r.get(field), (int, float)) and isinstance(r.get("step"), (int, float))
    ]
    return Series(name or field, points, tone, dots=dots and len(points) <= 60)


def _curve(
    series: Sequence[Series], name: str, note: str, unit: str, *, levels: Sequence[tuple[str, float]] = (), small: bool = False,
    log: bool = False, widths: tuple[int, ...] = svg.HALF,
) -> dict[str, Any] | None:  # fmt: skip
    points = series[0].points
    if not points:
        return None
    shown = [Series(name.lower(), points, series[0].tone, dots=series[0].dots)] if len(series) == 1 else series
    ending = f"{name} over {count(points[-1][0])} steps, from {number(points[0][1])} to {number(points[-1][1])}"

    def draw(width: int) -> str:
        across = [Level(n, v) for n, v in levels if len(levels) <= 6]
        return line_chart(shown, label=ending, y=unit, width=width, height=160 if small else 280, levels=across, zero=small, log_y=log)

    chart = draw(350) if small else svg.fluid(draw, *widths)
    finite = [v for _, v in points if math.isfinite(v)]
    note = note.format(high=number(max(finite, default=math.nan)), last=number(points[-1][1])) if "{" in note else note
    return {"name": name, "note": note, "chart": markup(chart)}


def levels(scores: Rows) -> list[tuple[str, float]]:
    """What to draw across the held-out curve: every compressor and n-gram of the headline contest, the strongest of a kind."""
    contest = headline_contest(contests(scores))
    if not contest:
        return []
    rivals = [r for r in contest.rivals() if not is_before(r)]
    whole = [str(r["subject"]) for r in rivals]
    short = [re.split(r",| \(", name)[0].strip() for name in whole]  # "gzip -9, all together" is gzip -9 where there is no other
    return [(s if short.count(s) == 1 else w, float(r["value"])) for s, w, r in zip(short, whole, rivals, strict=True)]
