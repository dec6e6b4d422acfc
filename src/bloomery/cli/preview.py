"""`bloomery preview`: the exact tokens that a step trains on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bloomery.cli import options
from bloomery.core.errors import BadInput, near

if TYPE_CHECKING:
    from bloomery.core.store import Store

NAME = "preview"


def command(
    what: Annotated[str, typer.Argument(help="A recipe file, or a model's step or artifact.")],
    step: Annotated[str, typer.Option(help="The recipe's step; the first that trains, where none is named.")] = "",
    rows: Annotated[int, typer.Option(min=1, help="Rows of the first step to show.")] = 2,
    changes: options.Set = [],  # noqa: B006 - typer copies it
    store: options.Store = options.STORE,
    as_json: options.Json = False,
) -> None:
    """Show the exact tokens of a training step, by weight.

    Tokens that are only read stand dim, or in brackets off a terminal; what must never be trained on silently is refused.
    """
    from bloomery.cli.tables import show_json
    from bloomery.core.store import Store
    from bloomery.seams import Rng

    opened = Store(store, make=False)
    stage, seed, name = (
        of_recipe(Path(what), step, tuple(changes), opened) if what.endswith((".yaml", ".yml")) else of_artifact(what, opened)
    )
    shown = stage.preview(Rng((seed, name)), rows)
    if as_json:
        show_json(
            {"row": number, "token": token, "id": ident, "weight": weight}
            for number, row in enumerate(shown)
            for token, ident, weight in row
        )
    else:
        for number, row in enumerate(shown):
            show_row(number, row)


def of_recipe(path: Path, step: str, changes: tuple[str, ...], store: Store) -> tuple[Any, int, str]:
    """The built stage of a recipe's training step; the tokens it trains on must be in the store."""
    from bloomery.core import recipe as recipes
    from bloomery.core.walk import build, plan

    read = recipes.read(path, changes)
    trains = [one for one in read.steps.values() if hasattr(one.stage.load(), "preview")]
    chosen = next((one for one in trains if one.name == step or not step), None)
    if chosen is None:
        raise BadInput(f"{path}: no step '{step}' that trains; {near(step, [one.name for one in trains])}")
    planned = {entry.step.name: entry for entry in plan(read, store)}
    missing = [need for need in chosen.needs() if planned[need].made is None]
    if missing:
        raise BadInput(f"{path}: steps.{chosen.name} trains on what is not made yet: {', '.join(missing)}; `bloomery run {path}` makes it")
    return build(chosen, planned, store), chosen.seed, chosen.stage.name


def of_artifact(name: str, store: Store) -> tuple[Any, int, str]:
    """The stage that made a model, as its card has it."""
    from bloomery.core.walk import rebuilt

    found = store.get(name)
    stage = rebuilt(found, store)
    if not hasattr(stage, "preview"):
        raise BadInput(f"{found.name} is a {found.kind}; preview shows what a training step has read, so name a model")
    return stage, found.card["seed"], found.card["stage"]


def show_row(number: int, row: list[tuple[str, int, float]]) -> None:
    """Trained tokens in colour by weight, tokens that are only read dim; off a terminal these stand in brackets."""
    import sys

    from rich.console import Console
    from rich.text import Text

    trained = sum(weight > 0 for _, _, weight in row)
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    console.print(Text(f"row {number}: {len(row)} tokens, {trained} trained", style="bold"))
    text = Text()
    for i, (token, _, weight) in enumerate(row):
        colour = ("green", "cyan")[i % 2] if weight == 1 else "yellow"
        text.append(token if weight > 0 or sys.stdout.isatty() else f"[{token}]", style=colour if weight > 0 else "dim reverse")
    console.print(text)
