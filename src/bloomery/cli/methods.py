"""`bloomery methods`: the catalogue."""

from __future__ import annotations

from typing import Annotated

import typer

from bloomery.cli import options

NAME = "methods"


def command(
    name: Annotated[str, typer.Argument(help="One method, or one stage: its knobs and its source.")] = "",
    seam: Annotated[str, typer.Option(help="Of one seam only.")] = "",
    store: options.Store = options.STORE,
    as_json: options.Json = False,
) -> None:
    """List the methods at each seam, or show one.

    With its knobs, their defaults and its source, and the verdict of its claims here or as shipped (`bloomery prove`).
    """
    from bloomery.cli.tables import show_json, show_table
    from bloomery.core.catalog import all_methods, entries
    from bloomery.core.errors import BadInput, near
    from bloomery.lab.claims import all_claims
    from bloomery.lab.evidence import newest
    from bloomery.seams import SEAMS

    if seam and seam not in SEAMS:
        raise BadInput(f"there is no seam '{seam}'; {near(seam, list(SEAMS))}")
    listed = all_methods() + (list(entries("stage").values()) if name else [])
    found = [entry for entry in listed if (not seam or entry.seam == seam) and (not name or entry.name == name)]
    if name and not found:
        raise BadInput(f"there is no method '{name}'; {near(name, [entry.name for entry in listed])}")
    claims = {(claim.seam, claim.name): claim for claim in all_claims()}
    proven = {(one.seam, one.name): newest(claims[one.seam, one.name], store) for one in found if (one.seam, one.name) in claims}
    if as_json:
        for one in found:
            known = proven.get((one.seam, one.name))
            about = {"verdict": known.verdict if known else None, "stale": known.stale if known else None}
            show_json([{"seam": one.seam, "name": one.name, "paper": one.paper, "source": one.source, **about, "summary": one.summary}])
    elif name:
        for entry in found:
            known = proven.get((entry.seam, entry.name))
            print(f"{entry.seam}: {entry.name}\n\n{entry.doc}\n")
            if known:
                told = "; ".join(f"{one['name'].replace('_', ' ')}: {one['verdict']}" for one in known.record["claims"])
                print(f"Proven {known.record['date'][:10]}{', stale' if known.stale else ''}: {told}\n")
            show_table(
                ("knob", "type", "default", "help"),
                [(k.name, k.annotation, "(required)" if k.required else repr(k.default), k.help) for k in entry.knobs.values()],
            )
    else:
        shown = {key: known.shown for key, known in proven.items() if known}
        rows = [(one.seam, one.name, one.summary, one.source, shown.get((one.seam, one.name), "")) for one in found]
        show_table(("seam", "method", "what it does", "source", "verdict"), rows)
