"""`bloomery methods`: the catalogue."""

from __future__ import annotations

from typing import Annotated

import typer

from bloomery.cli import options

NAME = "methods"


def command(
    name: Annotated[str, typer.Argument(help="One method, or one stage: its knobs and its source.")] = "",
    seam: Annotated[str, typer.Option(help="Of one seam only.")] = "",
    as_json: options.Json = False,
) -> None:
    """List the methods at each seam, or show one.

    With its knobs, their defaults and its source.
    """
    from bloomery.cli.tables import show_json, show_table
    from bloomery.core.catalog import all_methods, entries
    from bloomery.core.errors import BadInput, near
    from bloomery.seams import SEAMS

    if seam and seam not in SEAMS:
        raise BadInput(f"there is no seam '{seam}'; {near(seam, list(SEAMS))}")
    listed = all_methods() + (list(entries("stage").values()) if name else [])
    found = [entry for entry in listed if (not seam or entry.seam == seam) and (not name or entry.name == name)]
    if name and not found:
        raise BadInput(f"there is no method '{name}'; {near(name, [entry.name for entry in listed])}")
    if as_json:
        show_json(
            {"seam": one.seam, "name": one.name, "paper": one.paper, "source": one.source, "verdict": None, "summary": one.summary}
            for one in found
        )
    elif name:
        for entry in found:
            print(f"{entry.seam}: {entry.name}\n\n{entry.doc}\n")
            show_table(
                ("knob", "type", "default", "help"),
                [(k.name, k.annotation, "(required)" if k.required else repr(k.default), k.help) for k in entry.knobs.values()],
            )
    else:
        show_table(("seam", "method", "what it does", "source"), [(one.seam, one.name, one.summary, one.source) for one in found])
