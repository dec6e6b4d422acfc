"""`bloomery plan`: what a run would do and need."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from bloomery.cli import options

NAME = "plan"


def command(
    recipe: options.Recipe,
    changes: options.Set = [],  # noqa: B006 - typer copies it
    store: options.Store = options.STORE,
    memory: options.Memory = "",
    tries: Annotated[bool, typer.Option("--try", help="Do some training steps on made-up text: exact, and seconds for each.")] = False,
    as_json: options.Json = False,
) -> None:
    """Show what a run would do and need, step by step.

    Cached or not, parameters, tokens, FLOPs, peak memory, time and disk; nothing is made. Of a step that the memory does not hold,
    settings are named that fit. Training steps are rehearsed without numbers; with --try some are done, in a process of their own
    (seconds for each kind, with compiled blocks the compiler's too), which is remembered.
    """
    from bloomery.cli.tables import show_json, show_table
    from bloomery.core import recipe as recipes
    from bloomery.core.machine import remembered
    from bloomery.core.store import Store
    from bloomery.core.walk import plan, too_large, unfit

    opened = Store(store)
    place, effort = opened.root / "machine.json", "tried" if tries else "measured"
    planned = plan(recipes.read(recipe, tuple(changes)), opened, lambda: replace(remembered(place), effort=effort))
    rows = [row(entry, opened) for entry in planned]
    large = {entry.step.name: (entry, limit, found) for entry, limit, found in unfit(planned, opened, options.bytes_of(memory))}
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
            if not entry.made and entry.forecast.facts.get("lm_eval_items", 0) is None:
                print(f"{entry.step.name}: tasks of lm-eval are not in it, as their data is not on this machine yet")
    else:
        print("\nall is in the store; nothing to make")
    for name, (entry, limit, found) in large.items():
        print(f"\n{name}: {too_large(entry.forecast.memory, limit, found)}")


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
