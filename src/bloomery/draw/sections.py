"""From cards and measured rows (plain dicts) to what the report's template shows. Pure: no files, no clock.

A card is the card.json of an artifact; cards come in an order in which each follows what it was made from.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bloomery.draw import svg
from bloomery.draw.funnels import Stratum, funnel_chart, strata
from bloomery.draw.graphs import Node, graph
from bloomery.draw.histograms import Layer, Limit, histogram, limit_text
from bloomery.draw.lines import Level, Series, line_chart
from bloomery.draw.numbers import DASH, count, number, plain, seconds, si, size
from bloomery.draw.page import markup
from bloomery.draw.scores import Contest, contests, headline_contest

Card = Mapping[str, Any]


# ---- head ----------------------------------------------------------------------------------------------------------------


def names(cards: Sequence[Card]) -> dict[str, str]:
    """Address -> the step's name, with the folder's name where two steps are called the same."""
    steps = [str(c.get("step") or c.get("stage")) for c in cards]
    return {c["address"]: s if steps.count(s) == 1 else f"{s} ({c['address'][:6]})" for c, s in zip(cards, steps, strict=True)}


def parents(card: Card) -> list[str]:
    """The addresses that a card names as inputs, single or in lists."""
    found: list[str] = []
    for value in (card.get("inputs") or {}).values():
        found += [value] if isinstance(value, str) else [v for v in value or () if isinstance(v, str)]
    return found


def lede(cards: Sequence[Card], scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """Up to two sentences: what was made from what in what time; how the model stands against gzip."""
    model, corpus = _last(cards, "model"), _last(cards, "corpus")
    made = _model_words(model) if model else ""
    text = _corpus_words(corpus) if corpus else ""
    took, cores = total(cards, "seconds"), _cores(cards)
    time = f"everything took {seconds(took)}{f' on {cores} cores' if cores else ''}" if took else ""
    first = " from ".join(p for p in (made, text) if p) if made else text
    sentences = ["; ".join(p for p in (first, time) if p)]
    found = headline_contest(contests(scores))
    if found:
        mine, gzip = found.best(main=True), found.strongest("gzip")
        if mine and gzip:
            share = abs(1 - mine["value"] / gzip["value"])
            verb = "fewer" if mine["value"] < gzip["value"] else "more"
            sentences.append(f"On held-out text the model needs {number(mine['value'])} bits per byte: "
                             f"{share * 100:.0f}\u202f% {verb} than {gzip['subject']}, which needs {number(gzip['value'])}.")  # fmt: skip
    return [s[0].upper() + s[1:] + ("" if s.endswith(".") else ".") for s in sentences if s]


def figures(cards: Sequence[Card], scores: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The headline figures, the main score first; those that the lineage does not have are left out."""
    found: list[dict[str, Any]] = []
    model, corpus = _facts(_last(cards, "model")), _facts(_last(cards, "corpus"))
    contest = headline_contest(contests(scores))
    mine = contest.best(main=True) if contest else None
    gzip = contest.strongest("gzip") if contest else None
    if mine:
        note = f"{gzip['subject']}: {number(gzip['value'])}" if gzip else ""
        found.append({"name": "bits per byte, held out", "value": number(mine["value"]), "note": note, "main": True})
    if "parameters" in model:
        found.append({"name": "parameters", "value": si(model["parameters"]), "note": ""})
    if "tokens" in model:
        found.append({"name": "tokens trained on", "value": si(model["tokens"]), "note": _speed(model)})
    if "bytes" in corpus:
        found.append({"name": "text", "value": size(corpus["bytes"]), "note": f"{count(corpus.get('documents', 0))} documents"})
    if took := total(cards, "seconds"):
        predicted = sum((c.get("forecast") or {}).get("seconds") or 0 for c in cards)
        found.append({"name": "time", "value": seconds(took), "note": f"predicted: {seconds(predicted)}" if predicted else ""})
    checks = [k for c in cards for k in c.get("checks") or ()]
    if checks:
        held = sum(bool(k.get("ok")) for k in checks)
        note = "all hold" if held == len(checks) else f"{len(checks) - held} fail"
        found.append({"name": "checks", "value": count(len(checks)), "note": note})
    return [{"main": False, **one} for one in found]


def total(cards: Iterable[Card], field: str) -> float:
    """The sum of one measured cost over all cards."""
    return sum((c.get("cost") or {}).get(field) or 0 for c in cards)


def _last(cards: Sequence[Card], kind: str) -> Card | None:
    return next((c for c in reversed(cards) if c.get("kind") == kind), None)


def _facts(card: Card | None) -> Mapping[str, Any]:
    return (card or {}).get("facts") or {}


def _speed(facts: Mapping[str, Any]) -> str:
    return f"{si(facts['tokens_per_second'])} per second" if facts.get("tokens_per_second") else ""


def _model_words(card: Card) -> str:
    facts = _facts(card)
    size_ = f" with {si(facts['parameters'])} parameters" if "parameters" in facts else ""
    return f"a model{size_}" + (f", trained on {si(facts['tokens'])} tokens" if "tokens" in facts else "")


def _corpus_words(card: Card) -> str:
    facts = _facts(card)
    if "documents" not in facts:
        return ""
    return f"{count(facts['documents'])} documents" + (f" ({size(facts['bytes'])} of text)" if "bytes" in facts else "")


def _cores(cards: Sequence[Card]) -> int | None:
    found = {(c.get("machine") or {}).get("cores") for c in cards} - {None}
    return found.pop() if len(found) == 1 else None


# ---- steps ---------------------------------------------------------------------------------------------------------------


def recipe_graph(cards: Sequence[Card]) -> Any:
    """The steps and what flows between them, in three widths."""
    called = names(cards)
    nodes = [Node(c["address"], called[c["address"]], str(c.get("stage", "")), _took(c), tuple(parents(c)), _tone(c)) for c in cards]
    sources = {n.key: " and ".join(called[a] for a in n.after if a in called) for n in nodes}
    label = "Recipe: " + ", ".join(n.name + (f" from {sources[n.key]}" if sources[n.key] else "") for n in nodes)
    return markup(svg.fluid(lambda width: graph(nodes, label=label, width=width), *svg.FULL))


def _tone(card: Card) -> str:
    return "main" if card.get("kind") == "model" else ""


def steps(cards: Sequence[Card]) -> list[dict[str, Any]]:
    """One row per artifact: its step, folder name, what it is in a line, its knobs and facts."""
    called = names(cards)
    rows = []
    for c in cards:
        given = {k: [v] if isinstance(v, str) else v or () for k, v in (c.get("inputs") or {}).items()}
        inputs = {k: ", ".join(called.get(a, a) for a in v) for k, v in given.items()}
        knobs = {**{k: f"${v}" for k, v in inputs.items() if v}, **{k: v for k, v in (c.get("knobs") or {}).items() if k not in inputs}}
        facts = [(k.replace("_", " "), plain(v)) for k, v in _facts(c).items()]
        rows.append({
            "step": called[c["address"]], "name": c.get("name") or f"{c.get('stage')}-{c['address'][:16]}",
            "line": _line(c), "time": _took(c),
            "knobs": [(k, plain(v)) for k, v in knobs.items()] or [("", "none")], "facts": [*facts, ("address", c["address"])],
        })  # fmt: skip
    return rows


def _took(card: Card) -> str:
    cost = card.get("cost") or {}
    if cost.get("seconds") is None:
        return ""
    return seconds(cost["seconds"]) + (" (resumed)" if cost.get("resumed") else "")


def _line(card: Card) -> str:
    f, kind = _facts(card), str(card.get("kind", ""))
    said = {
        "corpus": lambda: f"{count(f['documents'])} documents, {size(f['bytes'])}",
        "tokens": lambda: f"{si(f['train_tokens'])} tokens, vocabulary of {count(f['vocab'])}",
        "model": lambda: f"{si(f['parameters'])} parameters, {si(f['tokens'])} tokens",
        "scores": lambda: f"{count(f['scores'])} scores",
    }.get(kind)
    disk = (card.get("cost") or {}).get("disk")
    try:
        return said() if said else f"{kind}, {size(disk)}" if disk else kind
    except KeyError:
        return f"{kind}, {size(disk)}" if disk else kind


# ---- data ----------------------------------------------------------------------------------------------------------------


def corpus(card: Card, called: str, funnel: Mapping[str, Any], spreads: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Funnel and histograms of one corpus. A spread: name, edges, kept, dropped, log, limits [(sign, value)]."""
    rows = strata(funnel)
    label = "Funnel: " + "; ".join(f"{r.name} {count(r.documents)} documents, {size(r.bytes)}" for r in rows)
    return {
        "step": called, "name": card["address"], "rows": rows, "sum": _sum(rows), "keep": (card.get("knobs") or {}).get("keep") or "",
        "funnel": markup(svg.fluid(lambda width: funnel_chart(rows, label=label, width=width), *svg.FULL)),
        "histograms": [_spread(one) for one in spreads], "dropped": any(any(one["dropped"]) for one in spreads),
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
    return {"name": shown, "note": note, "chart": markup(chart)}


# ---- training ------------------------------------------------------------------------------------------------------------


def model(card: Card, curve: Sequence[Mapping[str, Any]], levels: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """Training curves: held-out bits per byte beside other compressors, loss, and in little: rate, gradient norm, speed."""
    facts = _facts(card)
    line = f"{si(facts['parameters'])} parameters" if "parameters" in facts else "A model"
    if curve:
        line += f", {count(curve[-1].get('step', len(curve)))} steps"
    if facts.get("flops"):
        line += f", {si(facts['flops'], 'FLOP')}"
    large = [
        _curve(
            curve,
            "heldout_bpb",
            "Held-out bits per byte",
            "on documents that training never sees, logarithmic",
            "bits per byte",
            levels=levels,
            dots=True,
            log=True,
        ),
        _curve(curve, "loss", "Training loss", "cross-entropy of the batch", "nats per token", tone=2),
    ]
    little = [
        _curve(curve, "rate", "Learning rate", "peak {high}", "", small=True, tone=2),
        _curve(curve, "grad_norm", "Gradient norm", "last {last}", "", small=True, tone=2),
        _curve(curve, "tokens_per_second", "Speed", "tokens per second", "", small=True, tone=2),
    ]
    return {"line": line + ".", "large": [c for c in large if c], "little": [c for c in little if c]}


def _curve(
    curve: Sequence[Mapping[str, Any]], field: str, name: str, note: str, unit: str, *, levels: Sequence[tuple[str, float]] = (),
    small: bool = False, tone: int = 1, dots: bool = False, log: bool = False,
) -> dict[str, Any] | None:  # fmt: skip
    points = [(float(r["step"]), float(r[field])) for r in curve if isinstance(r.get(field), (int, float)) and "step" in r]
    if not points:
        return None
    ending = f"{name} over {count(points[-1][0])} steps, from {number(points[0][1])} to {number(points[-1][1])}"
    series = [Series(name.lower(), points, tone, dots=dots and len(points) <= 60)]

    def draw(width: int) -> str:
        shown = [Level(n, v) for n, v in levels if len(levels) <= 6]
        return line_chart(series, label=ending, y=unit, width=width, height=160 if small else 280, levels=shown, zero=small, log_y=log)

    chart = draw(350) if small else svg.fluid(draw, *svg.HALF)
    finite = [v for _, v in points if math.isfinite(v)]
    note = note.format(high=number(max(finite, default=math.nan)), last=number(points[-1][1]))
    return {"name": name, "note": note, "chart": markup(chart)}


def levels(scores: Sequence[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """What to draw across the held-out curve: every compressor and n-gram of the headline contest, the strongest of a kind."""
    contest: Contest | None = headline_contest(contests(scores))
    if not contest:
        return []
    whole = [str(r["subject"]) for r in contest.rivals()]
    short = [re.split(r",| \(", name)[0].strip() for name in whole]  # "gzip -9, all together" is gzip -9 where there is no other
    return [(s if short.count(s) == 1 else w, float(r["value"])) for s, w, r in zip(short, whole, contest.rivals(), strict=True)]


# ---- checks, cost, machine -----------------------------------------------------------------------------------------------


def checks(cards: Sequence[Card]) -> dict[str, Any]:
    """Every check, by step: its number, its limit, whether it holds."""
    called = names(cards)
    groups = [{
        "step": called[c["address"]],
        "rows": [{"name": str(k.get("name", "")), "value": plain(k.get("value")), "limit": plain(k.get("limit")), "ok": bool(k.get("ok")),
                  "note": str(k.get("note") or "")} for k in c["checks"]],
    } for c in cards if c.get("checks")]  # fmt: skip
    rows = [r for g in groups for r in g["rows"]]
    bad = sum(not r["ok"] for r in rows)
    said = f"All {count(len(rows))} checks hold." if not bad else f"{count(bad)} of {count(len(rows))} checks fail."
    return {"groups": groups, "line": f"Measured equalities at the borders between steps. {said}" if rows else "No checks are recorded."}


def cost(cards: Sequence[Card]) -> dict[str, Any]:
    """Predicted beside measured, per step and in all: (predicted, measured) of time, peak memory and disk."""
    called, rows = names(cards), []
    pairs = {"seconds": ("seconds", "seconds", seconds), "memory": ("memory", "peak_memory", size), "disk": ("disk", "disk", size)}
    whole: dict[str, list[list[float]]] = {k: [[], []] for k in pairs}
    for c in cards:
        row: dict[str, Any] = {"step": called[c["address"]], "sum": False}
        for key, (before, after, shown) in pairs.items():
            both = (c.get("forecast") or {}).get(before) or None, (c.get("cost") or {}).get(after)
            row[key] = [DASH if v is None else shown(v) for v in both]
            for side, v in enumerate(both):
                whole[key][side] += [] if v is None else [v]
        rows.append(row)
    if len(rows) > 1:
        merge = {"seconds": sum, "memory": max, "disk": sum}
        rows.append({"step": "In all", "sum": True,
                     **{k: [pairs[k][2](merge[k](v)) if v else DASH for v in whole[k]] for k in pairs}})  # fmt: skip
    took, thought = total(cards, "seconds"), sum(whole["seconds"][0])
    line = f"In all {seconds(took)}, {number(took / thought, 2)} times the prediction." if took and thought else ""
    return {"rows": rows, "line": line}


def machines(cards: Sequence[Card]) -> list[dict[str, Any]]:
    """The machines and library versions, steps that share both together."""
    called = names(cards)
    groups: list[tuple[Any, Any, list[str]]] = []
    for c in cards:
        machine, versions = c.get("machine") or {}, c.get("versions") or {}
        for known, found, members in groups:
            if known == machine and not any(found.get(k, v) != v for k, v in versions.items()):
                found.update(versions)
                members.append(called[c["address"]])
                break
        else:
            if machine or versions:
                groups.append((machine, dict(versions), [called[c["address"]]]))
    return [{
        "steps": ", ".join(members), "machine": [(k.replace("_", " "), _machine(k, v)) for k, v in machine.items()],
        "versions": [(k, plain(v)) for k, v in sorted(versions.items())],
    } for machine, versions, members in groups]  # fmt: skip


def _machine(key: str, value: Any) -> str:
    if key == "memory" and isinstance(value, (int, float)):
        return size(value)
    if key == "matmul_flops" and isinstance(value, Mapping):
        return ", ".join(f"{k} {si(v, 'FLOP/s')}" for k, v in value.items())
    return plain(value)
