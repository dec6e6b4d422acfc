"""What the cards prove and what they cost: checks, predicted beside measured, machines and versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bloomery.draw.cards import Card, names, total
from bloomery.draw.numbers import DASH, count, number, plain, seconds, si, size

FOLDED = 45  # so many checks are shown step by step, folded


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
    for group in groups:
        fails = sum(not r["ok"] for r in group["rows"])
        group["bad"], of = fails, f"{count(len(group['rows']))} check{'s' if len(group['rows']) != 1 else ''}"
        group["line"] = f"{of}, {f'{count(fails)} fail' if fails else 'all hold' if len(group['rows']) > 1 else 'holds'}"
    said = f"All {count(len(rows))} checks hold." if not bad else f"{count(bad)} of {count(len(rows))} checks fail."
    return {
        "groups": groups,
        "folded": len(rows) > FOLDED,
        "line": f"Measured equalities at the borders between steps. {said}" if rows else "No checks are recorded.",
    }


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
    told = [c for c in cards if (c.get("forecast") or {}).get("seconds")]
    took, thought = total(told, "seconds"), sum(c["forecast"]["seconds"] for c in told)
    times = (
        f", {number(took / thought, 2)} times the prediction{'' if len(told) == len(cards) else ' where there is one'}"
        if took and thought
        else ""
    )
    line = f"In all {seconds(total(cards, 'seconds'))}{times}." if total(cards, "seconds") else ""
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
