"""`bloomery gc`: remove what no recorded run needs."""

from __future__ import annotations

from typing import Annotated

import typer

from bloomery.cli import options

NAME = "gc"


def command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would go.")] = False,
    store: options.Store = options.STORE,
    as_json: options.Json = False,
) -> None:
    """Remove what no recorded run needs.

    Artifacts and unfinished work that the last run of no recipe needs; what those came from is kept.
    """
    from bloomery.cli.tables import show_json
    from bloomery.core.store import Store
    from bloomery.draw.numbers import size as file_size

    gone = Store(store, make=False).collect(dry_run)
    if as_json:
        show_json({"removed": name, "bytes": size, "dry_run": dry_run} for name, size in gone)
        return
    for name, size in gone:
        print(f"{'would remove' if dry_run else 'removed'} {name}  {file_size(size)}")
    print(f"{len(gone)} {'to remove' if dry_run else 'removed'}, {file_size(sum(size for _, size in gone))}")
