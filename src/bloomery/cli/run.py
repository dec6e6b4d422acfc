"""`bloomery run`: make what a recipe says."""

from __future__ import annotations

import os
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
        str, typer.Option("--on", help="Where work runs: local, local:WORKERS (for documents), ray, ray:HOST:PORT, ray://HOST:PORT.")
    ] = "local",
    processes: Annotated[
        int, typer.Option(min=0, help="Processes that train together, of this machine or the Ray cluster; 0: one, on Ray one a GPU.")
    ] = 0,
    restarts: Annotated[int, typer.Option(min=0, help="How often these are started again after one has failed.")] = 0,
    patience: Annotated[
        float, typer.Option(min=1, help="Seconds that a process waits for another before it names it.", envvar="BLOOMERY_PATIENCE")
    ] = 600.0,
    memory: options.Memory = "",
    quiet: Annotated[bool, typer.Option(help="Print the results only.")] = False,
    as_json: options.Json = False,
) -> None:
    """Make what a recipe says.

    Steps that the store has are skipped; an interrupted run goes on where it stood. Processes of torchrun or srun train together.
    """
    from bloomery.cli.results import show_results
    from bloomery.core import ranks
    from bloomery.core import recipe as recipes
    from bloomery.core.errors import BadInput
    from bloomery.core.executors import executor
    from bloomery.core.store import Store
    from bloomery.core.walk import run
    from bloomery.core.workers import end_with

    os.environ.update(ranks.of_slurm(os.environ))
    here, limit, parent = replace(ranks.here(), patience=patience), options.bytes_of(memory), os.environ.pop("BLOOMERY_PARENT", "")
    if parent:
        end_with(int(parent))
    if here.size > 1 and processes not in (0, here.size):
        raise BadInput(f"--processes {processes}: this launch has started {here.size} processes already; leave it out")
    read = recipes.read(recipe, tuple(changes))
    again = [*(part for change in changes for part in ("--set", change)), "--store", str(store), "--memory", memory]
    again += ["--patience", str(patience), *(["--quiet"] if quiet else []), *(["--json"] if as_json else [])]
    if here.size == 1 and not parent and (code := launched(on, processes, [NAME, str(recipe), *again], restarts, patience)) is not None:
        raise typer.Exit(code)
    opened = Store(store)
    if here.size == 1:
        show_results(run(read, opened, quiet=quiet, executor=executor(on, opened.root), memory=limit), store, as_json)
        return
    from bloomery.core.team import Team

    team = Team(here)
    if not here.first:
        raise typer.Exit(following(read, opened, team))
    with dismissing(team):
        show_results(run(read, opened, quiet=quiet, executor=executor(on, opened.root), memory=limit, team=team), store, as_json)


def launched(on: str, processes: int, arguments: list[str], restarts: int, patience: float) -> int | None:
    """The exit code of the processes that this one starts; None where it is itself the only one."""
    from bloomery.core import ranks

    if on.partition(":")[0] != "ray":
        return ranks.launch(processes, [*arguments, "--on", on], restarts) if processes > 1 else None
    from bloomery.core import ray_ranks
    from bloomery.core.executors import executor

    cluster = executor(on)
    number = processes or ray_ranks.gpus(cluster)
    return ray_ranks.launch(cluster, number, [*arguments, "--on", f"ray:{cluster.head}"], restarts, patience) if number else None


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
        who = f"rank {team.ranks.rank}"
        raise type(wrong)(str(wrong) if str(wrong).startswith(f"{who} ") else f"{who}: {wrong}") from wrong


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
