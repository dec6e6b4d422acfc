"""The steps of a lineage: their graph, and a line, knobs and facts of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bloomery.draw import svg
from bloomery.draw.cards import Card, facts, names, parents
from bloomery.draw.graphs import Node, graph
from bloomery.draw.numbers import count, plain, seconds, si, size
from bloomery.draw.page import markup

DRAWN = ("copy", "layers", "skipped", "hops")  # facts that a section of their own shows


def recipe_graph(cards: Sequence[Card]) -> Any:
    """The steps and what flows between them, in three widths."""
    called = names(cards)
    nodes = [Node(c["address"], called[c["address"]], str(c.get("stage", "")), _took(c), tuple(parents(c)), _tone(c)) for c in cards]
    sources = {n.key: " and ".join(called[a] for a in n.after if a in called) for n in nodes}
    label = "Recipe: " + ", ".join(n.name + (f" from {sources[n.key]}" if sources[n.key] else "") for n in nodes)
    return markup(svg.fluid(lambda width: graph(nodes, label=label, width=width), *svg.FULL))


def _tone(card: Card) -> str:
    """Models that were trained stand out, copies of them do not."""
    return "main" if card.get("kind") == "model" and "copy" not in facts(card) else ""


def steps(cards: Sequence[Card]) -> list[dict[str, Any]]:
    """One row per artifact: its step, folder name, what it is in a line, its knobs and facts."""
    called = names(cards)
    rows = []
    for c in cards:
        given = {k: [v] if isinstance(v, str) else v or () for k, v in (c.get("inputs") or {}).items()}
        inputs = {k: ", ".join(called.get(a, a) for a in v) for k, v in given.items()}
        knobs = {**{k: f"${v}" for k, v in inputs.items() if v}, **{k: v for k, v in (c.get("knobs") or {}).items() if k not in inputs}}
        told = [(k.replace("_", " "), _short(k, v)) for k, v in facts(c).items()]
        rows.append({
            "step": called[c["address"]], "name": c.get("name") or f"{c.get('stage')}-{c['address'][:16]}",
            "line": _line(c), "time": _took(c),
            "knobs": [(k, plain(v)) for k, v in knobs.items()] or [("", "none")], "facts": [*told, ("address", c["address"])],
        })  # fmt: skip
    return rows


def _short(name: str, value: Any) -> str:
    """A fact in words; those that a section of its own draws in one, by their size."""
    if name in DRAWN and isinstance(value, Sequence) and not isinstance(value, str):
        return f"{count(len(value))}, shown below"
    if name in DRAWN and isinstance(value, Mapping):
        return str(value.get("label") or f"{count(len(value))}") + ", shown below"
    return plain(value)


def _took(card: Card) -> str:
    cost = card.get("cost") or {}
    if cost.get("seconds") is None:
        return ""
    return seconds(cost["seconds"]) + (" (resumed)" if cost.get("resumed") else "")


def _line(card: Card) -> str:
    f, kind = facts(card), str(card.get("kind", ""))
    copy = f.get("copy")
    if isinstance(copy, Mapping) and copy.get("label"):
        weights = copy.get("bytes")
        return str(copy["label"]) + (f", {size(weights)} of weights" if isinstance(weights, (int, float)) else "")
    said = {
        "corpus": lambda: f"{count(f['documents'])} documents, {size(f['bytes'])}",
        "tokens": lambda: f"{si(f['train_tokens'])} tokens, vocabulary of {count(f['vocab'])}",
        "model": lambda: f"{si(f['parameters'])} parameters, {si(f['tokens'])} tokens",
        "scores": lambda: f"{count(f['scores'])} scores",
        "chats": lambda: f"{count(f['conversations'])} conversations",
    }.get(kind)
    disk = (card.get("cost") or {}).get("disk")
    try:
        return said() if said else f"{kind}, {size(disk)}" if disk else kind
    except (KeyError, TypeError, ValueError):
        return f"{kind}, {size(disk)}" if disk else kind
