"""`bloomery prove`: rerun the claims of papers here."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bloomery.cli import options

if TYPE_CHECKING:
    from bloomery.core.store import Store
    from bloomery.lab.claims import Claim
    from bloomery.lab.trials import Bench

NAME = "prove"


def command(
    names: Annotated[list[str] | None, typer.Argument(help="Methods, or files of claims.", show_default=False)] = None,
    seam: Annotated[str, typer.Option(help="All of one seam; `findings` are studies without a method.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All claims, the stalest first.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Show what is known of each claim, and run nothing.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds that are measured; tuning has one of its own.")] = 3,
    budget: Annotated[str, typer.Option(help="Begin no further claim after this time: 90s, 30m, 2h.", show_default=False)] = "",
    record: Annotated[bool, typer.Option("--record", help="Keep the result beside the claim, and draw docs/evidence.md again.")] = False,
    workers: Annotated[int, typer.Option(min=0, help="Trials side by side, one thread each; 0: one a core.")] = 0,
    on: options.On = "local",
    quiet: Annotated[bool, typer.Option(help="Print the results only.")] = False,
    store: options.Store = options.STORE,
    as_json: options.Json = False,
) -> int:
    """Rerun the claims of papers, at small scale.

    Each against a named baseline, at equal budget, over several seeds. Exit code 0 for any verdict, 1 where a claim could not be run.
    """
    from bloomery.core.errors import BadInput
    from bloomery.core.log import Log
    from bloomery.core.signals import Signals
    from bloomery.core.store import Store
    from bloomery.lab.benches import bench
    from bloomery.lab.claims import checkout, find
    from bloomery.lab.evidence import stalest_first
    from bloomery.lab.standings import read_budget

    limit = read_budget(budget)
    asked = sum((bool(names), bool(seam) and not names, everything, listed and not (names or seam)))
    if asked != 1:
        raise BadInput("prove what? give the name of a method, --seam, --all or --list" + (", only one of them" if asked else ""))
    found = find(list(names or ()), seam)
    if not found:
        raise BadInput(f"--seam {seam}: there are no claims yet; docs/proving.md says how one is written")
    if listed:
        show_list(found, store, as_json)
        return 0
    if record and (checkout() is None or any(not claim.seam for claim in found)):
        raise BadInput("--record keeps results beside the claims of a checkout; this is an installed package or a file from elsewhere")
    opened = Store(store)
    waiting = stalest_first(found, opened.root) if everything or not names or budget else found
    with Signals().listening(), bench(opened, on, workers, Log(label="trials", quiet=quiet or as_json).say) as place:
        return run_all(waiting, opened, place, seeds, limit, quiet or as_json, record, as_json)


def run_all(
    waiting: list[Claim], store: Store, bench: Bench, seeds: int, limit: float, quiet: bool, record: bool, as_json: bool
) -> int:  # fmt: skip
    """Prove one file after the other until the time is spent; 1 where one could not be run."""
    from bloomery.lab.proving import prove

    waiting, began, failed = list(waiting), time.monotonic(), 0
    while waiting and time.monotonic() - began < limit:
        claim = waiting.pop(0)
        told = prove(claim, store, seeds, bench, quiet)
        broken = any("error" in one for one in told["claims"])
        failed |= broken
        if record and not broken:
            keep(claim, told)
        show(told, as_json)
    if waiting:
        left = ", ".join(claim.title for claim in waiting)
        typer.echo(f"the time is spent; not begun: {left}; the same command begins with them", err=True)
    return int(failed)


def keep(claim: Claim, told: dict[str, Any]) -> None:
    """The record beside the claim, and the page of evidence with it."""
    from bloomery.lab import evidence, page
    from bloomery.lab.claims import all_claims, checkout

    if not evidence.keep(evidence.shipped(claim), told):
        typer.echo(f"{claim.title}: what is recorded is of the same code and of more seeds; it stays", err=True)
        return
    page.write(evidence.recorded(all_claims()), checkout() / "docs")


def show(told: dict[str, Any], as_json: bool) -> None:
    """One file's verdicts."""
    from bloomery.cli.tables import show_json, show_table
    from bloomery.draw.evidence import columns

    title = "/".join(part for part in (told["seam"], told["name"]) if part)
    if as_json:
        about = {name: told[name] for name in ("date", "seeds", "machine", "versions")}
        show_json({"claim": title, **{k: v for k, v in one.items() if k != "arms"}, **about} for one in told["claims"])
        return
    for one in told["claims"]:
        print(f"\n{title}: {one['name']}\n{one['says']}\n")
        if one["comparisons"]:
            show_table(("", "ours", "baseline", "difference", "95% interval", "asked", "outcome"), [columns(c) for c in one["comparisons"]])
        cost = f"{one['seconds']:,.0f} s, {one['trials']['run']} trials run and {one['trials']['reused']} found in the store"
        print(f"\n{one['verdict']}{': ' + one['error'] if 'error' in one else ''} ({cost})")


def show_list(claims: list[Claim], root: Path, as_json: bool) -> None:
    """Every claim with what is known of it."""
    from bloomery.cli.tables import show_json, show_table
    from bloomery.lab.evidence import newest

    known = {claim.title: newest(claim, root) for claim in claims}
    if as_json:
        for claim in claims:
            found = known[claim.title]
            verdicts = {one["name"]: one["verdict"] for one in found.record["claims"]} if found else {}
            about = {"stale": found.stale, "date": found.record["date"]} if found else {"stale": None, "date": None}
            show_json(
                {"claim": claim.title, "function": name, "says": " ".join(says.split()), "verdict": verdicts.get(name), **about}
                for name, says in claim.functions.items()
            )
        return
    rows = []
    for claim in claims:
        found = known[claim.title]
        says = "; ".join(" ".join(one.split()) for one in claim.functions.values())
        rows.append((claim.title, says, found.shown if found else "not proven yet", found.record["date"][:10] if found else ""))
    show_table(("claim", "what it says", "verdict", "date"), rows)
