"""`bloomery show`: one artifact and where it came from."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from bloomery.cli import options

NAME = "show"


def command(
    artifact: Annotated[str, typer.Argument(help="A step of the last run, an artifact's name, or the beginning of its address.")],
    store: options.Store = options.STORE,
    as_json: options.Json = False,
) -> None:
    """Show one artifact and what it came from.

    Its facts, checks, cost and files; a corpus shows its funnel, tokens how well their vocabulary fits, scores their table.
    """
    from bloomery.cli.results import show_scores
    from bloomery.core.store import Store
    from bloomery.core.walk import lineage_of

    opened = Store(store, make=False)
    found = opened.get(artifact)
    card = found.card
    if as_json:
        print(json.dumps(card))
        return
    print(f"{found.name}: a {found.kind}, made by `{card['stage']}` (step {card['step']} of {card['recipe']}) on {card['made']}")
    print(found.folder)
    section("came from", [(one.name, f"step {one.card['step']}") for one in lineage_of(found, opened) if one.name != found.name])
    section("knobs", [(name, compact(value)) for name, value in card["knobs"].items()])
    section("facts", [(name, compact(value)) for name, value in found.facts.items()])
    section(
        "checks",
        [
            (one["name"], f"{'holds' if one['ok'] else 'FAILS'}: {one['value']:.6g}, limit {one['limit']:.6g}  {one['note']}".rstrip())
            for one in card["checks"]
        ],
    )
    section("cost", [(name, compact(value)) for name, value in card["cost"].items()])
    section("files", [(name, f"{size:,} bytes") for name, (size, _) in card["files"].items()])
    if (found.folder / "funnel.json").exists():
        show_funnel(json.loads(found.path("funnel.json").read_text()))
    if found.kind == "tokens":
        show_fit(found.facts)
    if found.kind == "scores":
        show_scores(found)


def section(title: str, rows: list[tuple[str, str]]) -> None:
    if rows:
        width = max(len(name) for name, _ in rows)
        print(f"\n{title}\n" + "\n".join(f"  {name:<{width}}  {text}" for name, text in rows))


def compact(value: Any) -> str:
    """A value on one line, long ones cut."""
    text = f"{value:,.6g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 160 else text[:157] + "..."


def show_fit(facts: dict) -> None:
    """Bytes per token of each domain with their parity, and what becomes of the letters of each script."""
    from bloomery.cli.tables import show_table

    parity = facts.get("parity", {})
    domains = [
        (name or "none", f"{value:.3f}", f"{parity[name]:.3f}" if name in parity else "")
        for name, value in facts.get("bytes_per_token_of", {}).items()
    ]
    if domains:
        print()
        show_table(("domain", "bytes per token", "tokens over the fewest"), domains, right=("bytes per token", "tokens over the fewest"))
    rows = [
        (name, f"{one['tokens']:,}", f"{one['letters']:,}", "" if one["whole"] is None else f"{100 * one['whole']:.2f}%")
        for name, one in facts.get("scripts", {}).items()
    ]
    if rows:
        print()
        columns = ("script", "tokens", "letters held out", "whole in a token")
        show_table(columns, rows, right=columns[1:])
        print(f"{100 * facts['broken']:.3f}% of the bytes are in tokens that are no whole characters")


def show_funnel(funnel: dict) -> None:
    """Documents and bytes in, dropped by each reason, out."""
    from bloomery.cli.tables import show_table

    rows = [("in", f"{funnel['in']['documents']:,}", f"{funnel['in']['bytes']:,}")]
    rows += [(f"dropped: {one['reason']}", f"-{one['documents']:,}", f"-{one['bytes']:,}") for one in funnel["steps"]]
    rows += [(f"out: {name}", f"{one['documents']:,}", f"{one['bytes']:,}") for name, one in funnel["out"].items()]
    print()
    show_table(("funnel", "documents", "bytes"), rows, right=("documents", "bytes"))
