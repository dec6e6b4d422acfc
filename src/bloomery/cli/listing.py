"""`bloomery ls`: the artifacts of a store."""

from __future__ import annotations

from bloomery.cli import options

NAME = "ls"


def command(store: options.Store = options.STORE, as_json: options.Json = False) -> None:
    """List the artifacts of the store.

    Oldest first, damaged ones named with their mend.
    """
    from dataclasses import asdict

    from bloomery.cli.tables import show_json, show_table
    from bloomery.core.index import rows
    from bloomery.core.store import Store
    from bloomery.draw.numbers import size as file_size

    found = rows(Store(store, make=False))
    if as_json:
        show_json(asdict(row) for row in found)
        return
    shown = [
        (one.name, one.kind, one.step, one.recipe, one.made[:16].replace("T", " "), f"{one.seconds:,.1f}", file_size(one.bytes))
        for one in found
        if not one.damaged
    ]
    show_table(("artifact", "kind", "step", "recipe", "made (UTC)", "seconds", "size"), shown, right=("seconds", "size"))
    for one in found:
        if one.damaged:
            print(f"damaged: {one.damaged}")
