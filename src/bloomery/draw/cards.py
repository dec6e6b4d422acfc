"""Reading cards (the card.json of artifacts, as plain dicts): names, inputs, facts, numbers that may be missing.

Cards come in an order in which each follows what it was made from.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Card = Mapping[str, Any]


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


def facts(card: Card | None) -> Mapping[str, Any]:
    """What a card counted and measured; nothing where there is no card."""
    found = (card or {}).get("facts")
    return found if isinstance(found, Mapping) else {}


def last(cards: Sequence[Card], kind: str) -> Card | None:
    """The last card of a kind."""
    return next((c for c in reversed(cards) if c.get("kind") == kind), None)


def total(cards: Iterable[Card], field: str) -> float:
    """The sum of one measured cost over all cards."""
    return sum((c.get("cost") or {}).get(field) or 0 for c in cards)


def real(value: Any) -> float | None:
    """A finite number as a float, None for anything else: facts may lack any field."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def origin(cards: Sequence[Card], card: Card | None, kind: str) -> Card | None:
    """The last of a kind that a card came from, else the last of that kind at all."""
    by_address = {c.get("address"): c for c in cards}
    waiting, seen = [card] if card else [], []
    while waiting:
        above = [by_address[a] for a in parents(waiting.pop()) if a in by_address]
        waiting += [c for c in above if c not in seen]
        seen += above
    return last([c for c in cards if c in seen], kind) or last(cards, kind)


def trained(cards: Sequence[Card]) -> Card | None:
    """The model that was trained first: the one the text was read for. Failing that, the last model."""
    return next((c for c in cards if c.get("kind") == "model" and "tokens" in facts(c)), None) or last(cards, "model")
