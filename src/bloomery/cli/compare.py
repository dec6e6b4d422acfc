"""`bloomery compare`: methods under equal search, or models by their evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bloomery.cli import evaluations, options
from bloomery.core.errors import BadInput

NAME = "compare"
Changes = Annotated[list[str], typer.Option("--set", help="Fix a knob, which is then not searched: knob=value, or method.knob=value.")]
Target = Annotated[str, typer.Option(help="loss<=2.1 (held-out nats per token), bits<=1.9 (bits per byte), or loss or bits alone.")]
By = Annotated[
    Literal["seconds", "tokens", "bytes"] | None,
    typer.Option(
        help="The target is to be reached in few seconds or tokens; by a copy, in few bytes. Seconds are steps times what a step of the "
        "method takes, timed alone after the trials; a copy's are those of its card, taken beside other trials.",
        show_default="seconds, or bytes",
    ),
]


def command(
    names: Annotated[list[str], typer.Argument(help="Methods of one seam; without --seam, evaluations of models.", show_default=False)],
    seam: Annotated[str, typer.Option(help="The seam that methods are of, a part of pretraining or of compression.")] = "",
    target: Target = "loss",
    trials: Annotated[int, typer.Option(help="Trials of each method, from its own space; no more than the smallest space has points.")] = 8,
    budget: Annotated[
        str, typer.Option(help="Begin no round of trials that, with the timing after it, would end later: 90s, 30m, 2h. Empty: no end.")
    ] = "",
    world: Annotated[str, typer.Option(help="The text they are trained on.")] = "python",
    seed: Annotated[int, typer.Option(help="Of the trials and of the search.")] = 0,
    by: By = None,
    changes: Changes = [],  # noqa: B006 - typer copies it
    on: options.On = "local",
    store: options.Store = options.STORE,
    html: Annotated[Path | None, typer.Option(help="Of evaluations: write the comparison as a page to this file.")] = None,
    quiet: Annotated[bool, typer.Option(help="Print the results only.")] = False,
    as_json: options.Json = False,
) -> None:
    """Compare methods under equal search, or models by their evaluations.

    With --seam: the same number of trials for each method, drawn from its own declared space; the same command goes on where it stopped.
    Without: scores of several evaluations with intervals and clean twins, paired differences from the first one, and cost.
    """
    import sys

    from bloomery.core.log import Log
    from bloomery.core.signals import Signals
    from bloomery.core.store import Store
    from bloomery.lab import results
    from bloomery.lab.benches import Scattered, bench
    from bloomery.lab.compare import compare, contest
    from bloomery.lab.standings import read_budget, read_target

    if not seam:
        if on != "local":
            raise BadInput("--on goes with --seam: evaluations are read, and nothing is run")
        evaluations.show_evaluations(names, store, html, as_json)
        return
    if html:
        raise BadInput("--html goes with evaluations; a comparison of methods has its picture in the store")
    aim, seconds = read_target(target), read_budget(budget)
    planned = contest(seam, names, aim, trials, seed, world, by, changes)
    if not quiet:
        print(results.settled(planned), file=sys.stderr, flush=True)
    opened = Store(store)
    with Signals().listening(), bench(opened, on, 0, Log(label="compare", quiet=quiet).say) as place:
        standing = compare(planned, opened, seconds, place if isinstance(place, Scattered) else None, quiet, place.workers)
        files = results.publish(standing, opened)
    show(standing, as_json, files)


def show(standing: Any, as_json: bool, files: Sequence[Path]) -> None:
    """A row for each method, the best first; then where everything lies."""
    from bloomery.cli.tables import show_json, show_table

    if as_json:
        for row in standing.ranking:
            pace = standing.paces.get(row["method"])
            parts = {part: {k: v for k, v in row[part].items() if k != "points"} for part in ("best", "median")}
            show_json([{**row, "seconds_per_step": pace.told() if pace else None, **parts}])
        return
    one = standing.contest
    when = ["reached", "in s", one.target.amount, "median s"] if one.target.limit else []
    right = ["trials", *(["ms a step"] if standing.paces else []), *when, one.target.unit, "median"]
    show_table(["", "method", *right, "best settings"], [row_of(row, standing) for row in standing.ranking], right=right)
    done = f"{standing.rounds} of {one.each} rounds in {standing.seconds:,.0f} s: {standing.why}"
    print(f"\n{done}. One seed: a small lead may be chance; `--seed` repeats it with another.")
    if one.capped:
        print(f"Fewer trials than asked for: {one.capped}.")
    if one.target.limit and not any(row["reached"] for row in standing.ranking):
        print(f"No trial reached {one.target}; the rank is by the lowest {one.target.unit} of each method.")
    print(meaning(one))
    print("\n" + "\n".join(f"{kind:<8}{path}" for kind, path in zip(("results", "picture", "winner"), files, strict=True)))


def meaning(one: Any) -> str:
    """What seconds are here."""
    if one.stage == "pretrain":
        return "Seconds are steps times what a step takes (of turns the least to the most), timed after the trials, nothing of ours beside."
    return "Seconds are those of a copy's card, taken as it was made, with other trials beside it."


def row_of(row: dict[str, Any], standing: Any) -> list[str]:
    """One method in the table."""
    from bloomery.draw.numbers import si
    from bloomery.lab.standings import settings

    one, best, median = standing.contest, row["best"], row["median"]
    pace = standing.paces.get(row["method"])
    step = [f"{1e3 * pace.seconds:.1f} ({1e3 * pace.least:.1f} to {1e3 * pace.most:.1f})" if pace else "-"] if standing.paces else []
    trials = f"{row['trials']}" + (f", {row['failed']} failed" if row["failed"] else "")
    when = []
    if one.target.limit:
        found = [best["seconds_to_target"], best[f"{one.target.amount}_to_target"], median["seconds_to_target"]]
        shown = ["-" if value is None else si(value) if i == 1 else f"{value:,.1f}" for i, value in enumerate(found)]
        when = [f"{row['reached']} of {row['trials']}", *shown]
    finals = ["-" if part["final"] is None else f"{part['final']:.4f}" for part in (best, median)]
    return [str(row["rank"]), row["method"], trials, *step, *when, *finals, settings(best["knobs"]) or "as it is"]
