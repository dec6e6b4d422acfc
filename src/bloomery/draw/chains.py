"""The chain of copies of one model, each hop measured: chain.json holds text and hops.

A hop: from, to, what, token_ids_differ, kl, worst_kl, agreement, greedy_equal, greedy_total, greedy_odd, largest, tokens, note,
example, limits, ok.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bloomery.draw import svg
from bloomery.draw.cards import real
from bloomery.draw.numbers import DASH, count, nearly, number, plain
from bloomery.draw.page import markup
from bloomery.draw.stations import Hop, stations


def hops_of(chain: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The hops of a chain.json that are one."""
    hops = chain.get("hops")
    return [h for h in hops if isinstance(h, Mapping)] if isinstance(hops, Sequence) and not isinstance(hops, str) else []


def chain(called: str, found: Mapping[str, Any]) -> dict[str, Any] | None:
    """The stations with the figures of every hop, and the table; None where there is no hop."""
    hops = hops_of(found)
    if not hops:
        return None
    drawn = [Hop(str(h.get("from", "")), str(h.get("to", "")), _lines(h), _ok(h), _words(h)) for h in hops]
    label = "Chain: " + "; ".join(f"{d.start} to {d.stop}: {', '.join(d.lines)}" for d in drawn)
    chart = svg.fluid(lambda width: stations(drawn, label=label, width=width), *svg.FULL)
    text = found.get("text")
    return {
        "step": called, "chart": markup(chart), "rows": [_row(h) for h in hops], "text": text if isinstance(text, str) else "",
        "line": holds(hops),
        "ids": any(h.get("token_ids_differ") is not None for h in hops), "largest": any(real(h.get("largest")) is not None for h in hops),
        "greedy": any(real(h.get("greedy_total")) for h in hops),
    }  # fmt: skip


def _ok(hop: Mapping[str, Any]) -> bool | None:
    return hop["ok"] if isinstance(hop.get("ok"), bool) else None


def holds(hops: Sequence[Mapping[str, Any]]) -> str:
    """How many of the judged hops hold, in words."""
    judged = [h for h in hops if _ok(h) is not None]
    bad = [h for h in judged if not h["ok"]]
    if not judged:
        return f"{count(len(hops))} hops, none of them judged."
    if not bad:
        return f"All {count(len(judged))} hops hold." if len(judged) > 1 else "The hop holds."
    return (
        f"{count(len(bad))} of {count(len(judged))} hops fail: " + ", ".join(f"{h.get('from', '')} to {h.get('to', '')}" for h in bad) + "."
    )


def _lines(hop: Mapping[str, Any]) -> tuple[str, ...]:
    """The figures under an arrow, few and short."""
    kl, agreement, same, ids = (real(hop.get(k)) for k in ("kl", "agreement", "greedy_equal", "token_ids_differ"))
    parts = [
        f"KL {number(kl, 2)}" if kl is not None else "",
        f"agrees {nearly(agreement)}" if agreement is not None else "",
        f"greedy {_of(hop)}" if same is not None else "",
        f"{count(ids)} ids differ" if ids else "",
    ]
    return tuple(p for p in parts if p)


def _of(hop: Mapping[str, Any]) -> str:
    same, total = real(hop.get("greedy_equal")), real(hop.get("greedy_total"))
    return DASH if same is None else count(same) + (f" of {count(total)}" if total is not None else "")


def _words(hop: Mapping[str, Any]) -> str:
    return " · ".join(str(p) for p in (f"{hop.get('from', '')} to {hop.get('to', '')}", hop.get("what"), hop.get("note")) if p)


def _row(hop: Mapping[str, Any]) -> dict[str, Any]:
    limits = hop.get("limits") if isinstance(hop.get("limits"), Mapping) else {}

    def told(field: str, words: Any = lambda v: number(v, 2)) -> tuple[str, str]:
        value, limit = real(hop.get(field)), real(limits.get(field))
        sign = "at least" if field in ("agreement", "greedy_equal") else "limit"
        return DASH if value is None else words(
            value
        ), "" if limit is None else f"{sign} {words(limit) if field == 'agreement' else plain(limit)}"

    greedy = told("greedy_equal", count)
    known = {"token_ids_differ", "kl", "worst_kl", "agreement", "greedy_equal", "greedy_odd", "largest"}
    odd = real(hop.get("greedy_odd"))
    if odd:
        greedy = (greedy[0], f"{count(odd)} not as the logits tell")
    example = f"first to differ: {hop['example']}" if hop.get("example") else ""
    more = [f"{str(k).replace('_', ' ')}: limit {plain(v)}" for k, x in limits.items() if k not in known and (v := real(x)) is not None]
    return {
        "from": str(hop.get("from", "")), "to": str(hop.get("to", "")), "what": str(hop.get("what") or ""), "ok": _ok(hop),
        "ids": told("token_ids_differ", count), "kl": told("kl"), "worst": told("worst_kl"),
        "agreement": told("agreement", nearly), "greedy": (_of(hop), greedy[1]), "largest": told("largest"),
        "tokens": told("tokens", count)[0], "note": "; ".join(p for p in (str(hop.get("note") or ""), example, *more) if p),
    }  # fmt: skip
