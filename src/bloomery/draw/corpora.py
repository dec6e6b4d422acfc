"""Corpora: the funnel and how documents spread; conversations: how many of each kind and the first of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bloomery.draw import svg
from bloomery.draw.bars import Bar, bar_chart
from bloomery.draw.cards import Card, facts, real
from bloomery.draw.funnels import Stratum, funnel_chart, strata
from bloomery.draw.histograms import Layer, Limit, histogram, limit_text
from bloomery.draw.numbers import count, size
from bloomery.draw.page import markup

FIRST = 6  # histograms shown at once; all that have a limit are


def corpus(card: Card, called: str, funnel: Mapping[str, Any], spreads: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Funnel and histograms of one corpus. A spread: name, edges, kept, dropped, log, limits [(sign, value)]."""
    rows = strata(funnel)
    drawn = sorted((_spread(one) for one in spreads), key=lambda h: not h["limits"])
    first = max(FIRST, sum(h["limits"] for h in drawn))
    label = "Funnel: " + "; ".join(f"{r.name} {count(r.documents)} documents, {size(r.bytes)}" for r in rows)
    return {
        "step": called, "name": card["address"], "rows": rows, "sum": _sum(rows), "keep": (card.get("knobs") or {}).get("keep") or "",
        "funnel": markup(svg.fluid(lambda width: funnel_chart(rows, label=label, width=width), *svg.FULL)),
        "histograms": drawn[:first], "more": drawn[first:], "dropped": any(any(one["dropped"]) for one in spreads),
    }  # fmt: skip


def _sum(rows: Sequence[Stratum]) -> str:
    """The funnel as one line of arithmetic: 4 812 read − 1 204 dropped = 3 608 kept (3 410 to train on, 198 held out)."""
    dropped = sum(r.documents for r in rows if r.part == "drop")
    kept = [r for r in rows if r.part == "out"]
    parts = ", ".join(f"{count(r.documents)} {r.name.removeprefix('kept ').removeprefix('kept, ')}" for r in kept)
    return f"{count(rows[0].documents)} read − {count(dropped)} dropped = {count(sum(r.documents for r in kept))} kept ({parts})."


def _spread(one: Mapping[str, Any]) -> dict[str, Any]:
    layers = [Layer("kept", one["kept"], "kept"), Layer("dropped", one["dropped"], "dropped")]
    limits = [Limit(sign, value) for sign, value in one["limits"]]
    away = [limit_text(v) for v in limits if not one["edges"][0] <= v.value <= one["edges"][-1]]
    shown = str(one["name"])
    label = f"Histogram of {shown}: {count(sum(one['kept']))} kept and {count(sum(one['dropped']))} dropped documents"
    beyond = f"limit {' and '.join(away)} lies beyond the axis" if away else ""
    note = "; ".join(p for p in ("logarithmic" if one["log"] else "", beyond) if p)
    chart = histogram(one["edges"], layers, label=label, limits=limits, log_x=one["log"])
    return {"name": shown, "note": note, "chart": markup(chart), "limits": bool(limits)}


# ---- conversations -------------------------------------------------------------------------------------------------------

SHOWN = 1_600  # characters of a message shown


def chats(card: Card, called: str, counts: Mapping[str, Mapping[str, int]], examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Conversations by kind (`counts`: train and heldout -> kind -> number), and the first of each kind, message by message."""
    train, held = counts.get("train", {}), counts.get("heldout", {})
    kinds = sorted({*train, *held}, key=lambda k: (-train.get(k, 0) - held.get(k, 0), k))
    bars = [
        Bar(_kind(k), train.get(k, 0) + held.get(k, 0), main=False, shown=f"{count(train.get(k, 0))} + {count(held.get(k, 0))} held out")
        for k in kinds[:16]
    ]  # fmt: skip
    label = "Conversations by kind: " + ", ".join(f"{b.name} {b.shown}" for b in bars)
    line = f"{count(sum(train.values()))} conversations to tune on, {count(sum(held.values()))} held out"
    drawn = svg.fluid(lambda width: bar_chart(bars, label=label, unit="conversations", width=width), *svg.FULL)
    return {
        "step": called, "line": f"{line}, of {count(len(kinds))} kind{'s' if len(kinds) != 1 else ''}.", "left": _left(card),
        "chart": markup(drawn) if len(bars) > 1 else "", "examples": [_example(one) for one in examples],
    }  # fmt: skip


def _left(card: Card) -> str:
    """What was left out and why, both parts together, from the facts train_dropped and heldout_dropped."""
    reasons: dict[str, float] = {}
    for part in ("train", "heldout"):
        found = facts(card).get(f"{part}_dropped")
        for why, number in found.items() if isinstance(found, Mapping) else ():
            reasons[str(why)] = reasons.get(str(why), 0) + (real(number) or 0)
    return ", ".join(f"{count(n)} {why}" for why, n in sorted(reasons.items(), key=lambda r: (-r[1], r[0])) if n)


def _kind(kind: str) -> str:
    return kind.replace("_", " ") or "no kind named"


def _example(one: Mapping[str, Any]) -> dict[str, Any]:
    told = [(str(role), str(content)) for role, content in one.get("messages", ())]
    first = next((line.strip() for _, content in told for line in content.splitlines() if line.strip()), "(empty)")
    return {
        "kind": _kind(str(one.get("kind") or "")), "head": first if len(first) <= 90 else first[:89] + "…",
        "messages": [{"role": role, "text": text if len(text) <= SHOWN else text[:SHOWN] + "…"} for role, text in told],
    }  # fmt: skip
