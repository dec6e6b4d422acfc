"""`bloomery plan`: what a run would do and need."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bloomery.cli import options
from bloomery.core.errors import BadInput

if TYPE_CHECKING:
    from bloomery.core.store import Store

NAME = "plan"


def command(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe file.", show_default=False)] = None,
    changes: options.Set = [],  # noqa: B006 - typer copies it
    store: options.Store = options.STORE,
    memory: options.Memory = "",
    tries: Annotated[bool, typer.Option("--try", help="Do some training steps on made-up text: exact, and seconds for each.")] = False,
    cluster: Annotated[
        str, typer.Option(help="Rank the meshes of such a cluster instead: nodes=64,gpus=8,gpu=h100,intra=900GB/s,inter=400Gb/s.")
    ] = "",
    model: Annotated[str, typer.Option(help="With --cluster: a model's folder or a published shape, such as llama-70b.")] = "",
    batch: Annotated[int, typer.Option(min=1, help="With --model: tokens of a step.")] = 1 << 22,
    context: Annotated[int, typer.Option(min=0, help="With --model: tokens of a row; 0 = what the model was made for.")] = 0,
    top: Annotated[int, typer.Option(min=1, help="With --cluster: how many meshes are shown.")] = 10,
    as_json: options.Json = False,
) -> None:
    """Show what a run would do and need, step by step.

    Cached or not, parameters, tokens, FLOPs, peak memory, time and disk; nothing is made. Of a step that the memory does not hold,
    settings are named that fit. Training steps are rehearsed without numbers; with --try some are done, in a process of their own
    (seconds for each kind, with compiled blocks the compiler's too), which is remembered. Of a step with a mesh memory and time are of each
    of its processes. With --cluster: meshes of a cluster, ranked by
    the predicted seconds of a step of the recipe's training or of --model.
    """
    if model and (recipe is not None or not cluster):
        raise BadInput("plan: --model goes with --cluster and takes the place of a recipe; leave one of them out")
    if cluster and tries:
        raise BadInput("plan: --try does steps on this machine, and those of --cluster are predicted; leave one of them out")
    if model:
        from bloomery.cli.meshes import job_of, shape, show_meshes

        show_meshes(cluster, model, job_of(shape(model), batch, context), top, as_json)
        return
    if recipe is None:
        raise BadInput("plan: name a recipe, or a cluster and a model: --cluster nodes=64,gpus=8 --model llama-70b")
    planned, opened = forecasts(recipe, tuple(changes), store, "tried" if tries else "measured")
    if cluster:
        from bloomery.cli.meshes import jobs_of, show_meshes

        for name, job in jobs_of(planned).items():
            show_meshes(cluster, name, job, top, as_json)
        return
    show_steps(planned, opened, options.bytes_of(memory), as_json)


def forecasts(recipe: Path, changes: tuple[str, ...], store: Path, effort: str) -> tuple[list, Store]:
    """Every step with what it is predicted to need, and the opened store."""
    from bloomery.core import recipe as recipes
    from bloomery.core.machine import remembered
    from bloomery.core.store import Store
    from bloomery.core.walk import plan

    opened = Store(store)
    place = opened.root / "machine.json"
    return plan(recipes.read(recipe, changes), opened, lambda: replace(remembered(place), effort=effort)), opened


def show_steps(planned: list, opened: Store, memory: int, as_json: bool) -> None:
    """A row for each step, what is to be made in all, and settings that fit where the memory does not hold a step."""
    from bloomery.cli.tables import show_json, show_table
    from bloomery.core.walk import too_large, unfit

    rows = [row(entry, opened) for entry in planned]
    large = {entry.step.name: (entry, limit, found) for entry, limit, found in unfit(planned, opened, memory)}
    if as_json:
        fits = {name: [vars(fit) for fit in found] for name, (_, _, found) in large.items()}
        show_json({**one, **({"fits": fits[one["step"]]} if one["step"] in fits else {})} for one in rows)
        return
    show_table(COLUMNS, [tuple(written(name, one[name]) for name in COLUMNS) for one in rows], right=COLUMNS[3:])
    new = [one for one in rows if one["state"] != "cached"]
    if new:
        seconds, disk = sum(one["seconds"] for one in new), sum(one["disk"] for one in new)
        peak = max(one["memory"] for one in new)
        need = f"{written('disk', disk)} of disk, {written('memory', peak)} of memory at most"
        print(f"\n{len(new)} of {len(rows)} steps to make: about {seconds:,.0f} s, {need}")
        for entry in planned:
            if not entry.made:
                show_notes(entry)
    else:
        print("\nall is in the store; nothing to make")
    for name, (entry, limit, found) in large.items():
        print(f"\n{name}: {too_large(entry.forecast.memory, limit, found)}")


def show_notes(entry) -> None:
    """What is to be known of a step's forecast beside its row."""
    from bloomery.core.mesh import written as mesh

    name, facts = entry.step.name, entry.forecast.facts
    if many := facts.get("processes"):
        sent, rate = (written("disk", size) for size in (sum(facts["sent_bytes"].values()), facts["link_bytes_per_second"]))
        print(
            f"{name}: memory and time are of each of the {many} processes of {mesh(facts['mesh'])}, which sends {sent} a step at {rate}/s"
        )
    if without := facts.get("forecast_without"):
        print(f"{name}: forecast without {without}")
    if facts.get("lm_eval_items", 0) is None:
        print(f"{name}: tasks of lm-eval are not in it, as their data is not on this machine yet")


COLUMNS = ("step", "stage", "state", "parameters", "tokens", "flops", "memory", "seconds", "disk")


def row(entry, store) -> dict:
    """Predictions of a step that is to be made; measurements of one that the store has."""
    card = entry.made.card if entry.made else None
    cost = card["cost"] if card else {"seconds": entry.forecast.seconds, "peak_memory": entry.forecast.memory, "disk": entry.forecast.disk}
    facts = card["facts"] if card else entry.forecast.facts
    name = f"{entry.step.stage.name}-{entry.address[:16]}"
    state = "cached" if card else "goes on" if (store.work / name).is_dir() else "to make"
    numbers = {"memory": cost["peak_memory"], "seconds": cost["seconds"], "disk": cost["disk"]}
    own = {name: facts.get(name) for name in ("parameters", "tokens", "flops")}
    asked = {"items": items(facts)} if "items" in facts else {}
    told = ("processes", "sent_bytes", "link_bytes_per_second")
    asked |= {name: facts[name] for name in told if name in facts and not card}
    asked |= {"without": facts["forecast_without"]} if facts.get("forecast_without") and not card else {}
    return {
        "step": entry.step.name,
        "stage": entry.step.stage.name,
        "state": state,
        "artifact": name,
        **own,
        **asked,
        **numbers,
    }


def items(facts) -> int:
    """Items of an evaluation: predicted, or counted by task."""
    found = facts["items"]
    return sum(found.values()) + sum(one.get("items", 0) for one in facts.get("lm_eval", {}).values()) if isinstance(found, dict) else found


def written(name: str, value) -> str:
    from bloomery.draw.numbers import si
    from bloomery.draw.numbers import size as file_size

    if value is None:
        return ""
    if name in ("memory", "disk"):
        return file_size(value)
    if name == "flops":
        return si(value)
    if name in ("parameters", "tokens"):
        return f"{value:,.0f}"
    return f"{value:,.1f}" if name == "seconds" else str(value)
