"""`bloomery papers`: the literature, and how much of it is here."""

from __future__ import annotations

from typing import Annotated

import typer

from bloomery.cli import options

NAME = "papers"


def command(
    seam: Annotated[str, typer.Option(help="Of one seam only.")] = "",
    covered: Annotated[bool, typer.Option("--covered", help="Only those with a method here.")] = False,
    as_json: options.Json = False,
) -> None:
    """List the papers and the methods that implement them.

    The literature that the catalogue is measured against.
    """
    from bloomery.cli.tables import show_json, show_table
    from bloomery.core.bibliography import papers
    from bloomery.core.catalog import all_methods

    here: dict[str, list[str]] = {}
    for entry in all_methods():
        if entry.paper:
            here.setdefault(entry.paper, []).append(f"{entry.seam}/{entry.name}")
    found = [one for one in papers().values() if (not seam or seam in one.seam.split(" + ")) and (not covered or one.id in here)]
    if as_json:
        show_json(
            {"id": one.id, "name": one.name, "title": one.title, "scope": one.scope, "seam": one.seam, "methods": here.get(one.id, [])}
            for one in found
        )
        return
    show_table(
        ("paper", "name", "seam", "methods", "title"),
        [(one.id, one.name, one.seam, " ".join(here.get(one.id, [])), one.title) for one in found],
    )
    print(f"\n{len(here)} of {len(papers())} papers have a method here")
