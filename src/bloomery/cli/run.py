"""`bloomery run`: make what a recipe says."""

from __future__ import annotations

from typing import Annotated

import typer

from bloomery.cli import options

NAME = "run"


def command(
    recipe: options.Recipe,
    changes: options.Set = [],  # noqa: B006 - typer copies it
    store: options.Store = options.STORE,
    on: Annotated[
        str, typer.Option("--on", help="Where work on documents runs: local, local:WORKERS, ray, ray:HOST:PORT, ray://HOST:PORT.")
    ] = "local",
    memory: options.Memory = "",
    quiet: Annotated[bool, typer.Option(help="Print the results only.")] = False,
    as_json: options.Json = False,
) -> None:
    """Make what a recipe says.

    Steps that the store has are skipped; an interrupted run goes on where it stood.
    """
    from bloomery.cli.results import show_results
    from bloomery.core import recipe as recipes
    from bloomery.core.executors import executor
    from bloomery.core.store import Store
    from bloomery.core.walk import run

    read = recipes.read(recipe, tuple(changes))
    planned = run(read, Store(store), quiet=quiet, executor=executor(on), memory=options.bytes_of(memory))
    show_results(planned, store, as_json)
