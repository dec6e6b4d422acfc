"""`bloomery show`: one artifact and where it came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bloomery.cli import options
from bloomery.core.errors import BadInput

if TYPE_CHECKING:
    from bloomery.core.store import Artifact

NAME = "show"


def command(
    artifact: Annotated[str, typer.Argument(help="A step of the last run, an artifact's name, or the beginning of its address.")],
    html: Annotated[Path | None, typer.Option(help="Write the pictures of a corpus, with samples, to this HTML file.")] = None,
    items: Annotated[str | None, typer.Option(help="Of scores: list the items of this task, the worst first.")] = None,
    item: Annotated[
        str | None, typer.Option(help="With --items: show the one of this id whole: what was asked, replied and wanted.")
    ] = None,
    store: options.Store = options.STORE,
    as_json: options.Json = False,
) -> None:
    """Show one artifact and what it came from.

    Its facts, checks, cost and files; a corpus shows its funnel, a histogram of every signal and samples either side of each threshold,
    tokens how well their vocabulary fits, scores their table and, with --items, every prompt, reply and grade.
    """
    from bloomery.cli.items import show_items
    from bloomery.cli.results import show_scores
    from bloomery.core.store import Store
    from bloomery.core.walk import lineage_of

    opened = Store(store, make=False)
    found = opened.get(artifact)
    card = found.card
    if items or item:
        show_items(found, items, item, as_json)
        return
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
        show_corpus(found)
        if html:
            write_page(found, html)
    elif html:
        raise BadInput(f"--html: {found.name} is a {found.kind}; only a corpus has pictures of its own")
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


def show_corpus(corpus: Artifact) -> None:
    """Documents and bytes in, dropped by each reason, out; how documents spread over each signal; samples at the thresholds."""
    from bloomery.draw.funnels import strata
    from bloomery.draw.terminal import funnel_lines, histogram_lines, sample_lines
    from bloomery.stages.report import spreads

    funnel = json.loads(corpus.path("funnel.json").read_text(encoding="utf-8"))
    print("\nfunnel\n" + "\n".join(f"  {line}" for line in funnel_lines(strata(funnel))))
    found = sorted(spreads(corpus), key=lambda one: not one["limits"])
    for one in found:
        print("\n" + "\n".join(f"  {line}" for line in histogram_lines(one)))
    for limit in thresholds(corpus):
        print("\n" + "\n".join(f"  {line}" for line in sample_lines(limit)))


def thresholds(corpus: Artifact) -> list[dict[str, Any]]:
    """The samples either side of each threshold, as curate has left them; none in corpora of earlier versions."""
    path = corpus.path("thresholds.json")
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def write_page(corpus: Artifact, to: Path) -> None:
    """The same as a page of its own."""
    from bloomery.draw import corpora, page
    from bloomery.draw.numbers import number
    from bloomery.stages.report import spreads

    funnel = json.loads(corpus.path("funnel.json").read_text(encoding="utf-8"))
    limits = [{**one, "shown": f"{one['value']:g}"} for one in thresholds(corpus)]
    for one in (one for limit in limits for side in ("kept", "dropped") for one in limit[side]):
        one["shown"] = number(one["value"])
    drawn = corpora.corpus(corpus.card, corpus.card["step"], funnel, spreads(corpus))
    title = f"{corpus.card['step']}: {corpus.name}"
    to.write_text(page.render(page.CORPUS, title=title, corpus=drawn, thresholds=limits), encoding="utf-8")
    print(f"\n{to}")
