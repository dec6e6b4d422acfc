"""`bloomery rm`: remove one artifact."""

from __future__ import annotations

from typing import Annotated

import typer

from bloomery.cli import options

NAME = "rm"


def command(
    artifacts: Annotated[list[str], typer.Argument(help="Artifacts by name, address or step.")],
    store: options.Store = options.STORE,
) -> None:
    """Remove artifacts; refuse those that others came from.

    A damaged artifact may always go: its address is made again.
    """
    from bloomery.core.store import Store

    opened = Store(store, make=False)
    for name in artifacts:
        print(f"removed {opened.remove(name).name}")
