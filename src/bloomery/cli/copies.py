"""Tables of copies and of the hops between them, as `run` and `check --chain` print them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.cli.tables import show_table
from bloomery.draw.numbers import size as file_size

if TYPE_CHECKING:
    from bloomery.core.store import Artifact

HOPS = ("", "hop", "what", "other ids", "KL", "worst KL", "logit", "agreement", "same text", "tokens", "note")
COPIES = (
    "copy", "step", "of", "size", "bits/weight", "nats/token", "source's", "bits/byte", "KL", "same token", "tokens/s", "source's",
    "seconds", "verdict", "by",
)  # fmt: skip


def show_hops(hops: Iterable[Mapping[str, Any]], notes: bool = True) -> None:
    """One line for each hop; without notes the table fits a page."""
    last = len(HOPS) if notes else -1
    show_table(HOPS[:last], [hop_cells(row)[:last] for row in hops], right=HOPS[3:10])


def hop_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """A hop as a row of the table; "logit" is the largest difference of one."""

    def told(name: str, form: str = ".2e") -> str:
        limit = row["limits"].get(name)
        return "" if row.get(name) is None else f"{row[name]:{form}}" + ("" if limit is None else f" of {limit:.2g}")

    return (
        "holds" if row["ok"] else "FAILS", f"{row['from']} to {row['to']}", row["what"], f"{row['token_ids_differ']} of {row['texts']}",
        told("kl"), f"{row['worst_kl']:.2e}", told("largest", ".1e"), f"{100 * row['agreement']:.2f}%",
        f"{row['greedy_equal']} of {row['greedy_total']}", f"{row['tokens']}", row["example"] or row["note"],
    )  # fmt: skip


def show_copies(made: Mapping[str, Artifact], store: Path | None = None) -> None:
    """Size against quality of every step whose result is a copy of a model, and what the claims of the methods that made them have come
    to, in a store or as shipped; nothing where there is no copy."""
    steps = {one.name: step for step, one in made.items()}
    told = {step: one for step, one in made.items() if one.facts.get("copy")}
    rows = []
    for step, one in told.items():
        more = {"seconds": one.facts.get("compress_seconds"), "verdict": verdict(one, store)}
        rows.append(copy_cells(step, {**one.facts["copy"], **more}, steps))
    if rows:
        print()
        show_table(COPIES, rows, right=COPIES[3:13])


def verdict(copy: Artifact, store: Path | None) -> str:
    """What is known of the method with which a step compressed: its recorded verdict, "not proven", or "no claim"; "" for other steps."""
    from bloomery.lab import claims, evidence

    if copy.card.get("stage") != "compress":
        return ""
    (method,) = copy.card["knobs"]["method"]
    file = claims.folder() / "compress" / f"{method}.py"
    if not file.is_file():
        return "no claim"
    known = evidence.newest(claims.read(file, "compress"), store)
    return known.shown if known else "not proven"


def copy_cells(step: str, copy: Mapping[str, Any], steps: Mapping[str, str]) -> tuple[str, ...]:
    """A copy as a row of the table; what was not measured stays empty. Seconds are those of compressing alone."""

    def told(name: str, form: str) -> str:
        return "" if copy.get(name) is None else format(copy[name], form)

    agreement = "" if copy.get("agreement") is None else f"{100 * copy['agreement']:.2f}%"
    return (
        str(copy.get("label", "")), step, steps.get(copy.get("of", ""), str(copy.get("of", ""))),
        file_size(copy["bytes"]) if copy.get("bytes") else "", told("bits_per_weight", ".2f"), told("nats", ".4f"),
        told("source_nats", ".4f"), told("bits_per_byte", ".4f"), told("kl", ".1e"), agreement, told("decode_tokens_per_second", ",.0f"),
        told("source_decode_tokens_per_second", ",.0f"), told("seconds", ".1f"), told("verdict", ""),
        str(copy.get("engine", "")),
    )  # fmt: skip
