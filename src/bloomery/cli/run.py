"""`bloomery run`: make what a recipe says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from bloomery.cli import options

if TYPE_CHECKING:
    from bloomery.core.recipe import Recipe
    from bloomery.core.store import Store
    from bloomery.core.team import Team

NAME = "run"


def command(
    recipe: options.Recipe,
    changes: options.Set = [],  # noqa: B006 - typer copies it
    store: options.Store = options.STORE,
    on: Annotated[
        str, typer.Option("--on", help="Where work on documents runs: local, local:WORKERS, ray, ray:HOST:PORT, ray://HOST:PORT.")
    ] = "local",
    processes: Annotated[int, typer.Option(min=1, help="Processes of this machine that train together, as torchrun starts them.")] = 1,
    restarts: Annotated[int, typer.Option(min=0, help="How often these are started again after one has failed.")] = 0,
    patience: Annotated[
        float, typer.Option(min=1, help="Seconds that a process waits for another before it names it.", envvar="BLOOMERY_PATIENCE")
    ] = 600.0,
    memory: options.Memory = "",
    quiet: Annotated[bool, typer.Option(help="Print the results only.")] = False,
    as_json: options.Json = False,
) -> None:
    """Make what a recipe says.

    Steps that the store has are skipped; an interrupted run goes on where it stood. Under torchrun all its processes train together.
    """
    from bloomery.cli.results import show_results
    from bloomery.core import ranks
    from bloomery.core import recipe as recipes
    from bloomery.core.executors import executor
    from bloomery.core.store import Store
    from bloomery.core.walk import run

    here, limit = replace(ranks.here(), patience=patience), options.bytes_of(memory)
    if processes > 1 and here.size == 1:
        again = [*(part for change in changes for part in ("--set", change)), "--store", str(store), "--on", on, "--memory", memory]
        again += ["--patience", str(patience), *(["--quiet"] if quiet else []), *(["--json"] if as_json else [])]
        raise typer.Exit(ranks.launch(processes, [NAME, str(recipe), *again], restarts))
    read = recipes.read(recipe, tuple(changes))
    if here.size == 1:
        show_results(run(read, Store(store), quiet=quiet, executor=executor(on), memory=limit), store, as_json)
        return
    from bloomery.core.team import Team

    team = Team(here)
    if not here.first:
        raise typer.Exit(following(read, Store(store), team))
    with dismissing(team):
        show_results(run(read, Store(store), quiet=quiet, executor=executor(on), memory=limit, team=team), store, as_json)


def following(recipe: Recipe, store: Store, team: Team) -> int:
    """The exit code of a process that is not the first. What the first one says too is not said again."""
    from bloomery.core.errors import BadInput, CheckFailed, Interrupted
    from bloomery.core.follow import follow
    from bloomery.core.walk import StepFailed

    try:
        return follow(recipe, store, team)
    except (BadInput, CheckFailed, StepFailed, Interrupted) as wrong:
        if (code := team.dismissed()) is not None:
            return code
        raise type(wrong)(f"rank {team.ranks.rank}: {wrong}") from wrong


@contextmanager
def dismissing(team: Team) -> Iterator[None]:
    """However the first process ends, the others end with its exit code."""
    from bloomery.core.errors import BadInput, Interrupted

    code = 1
    try:
        yield
        code = 0
    except BadInput:
        code = 2
        raise
    except Interrupted:
        code = 75
        raise
    finally:
        team.dismiss(code)
