"""What methods that ask models do with a prepared chunk: in one process, which holds the models, after the workers have done the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bloomery.data.prepare import META, Recipe, aside, measured, prepare_batch
from bloomery.data.tables import read_table, write_table
from bloomery.seams import Doc


def divided(recipe: Recipe, needs: Callable[[Any], bool]) -> tuple[Recipe, Recipe]:
    """What workers do, and what is left for the process with the models: all from the first edit on that needs one, with every signal
    then, as the text changes; else the signals that need one."""
    first = next((i for i, (_, edit) in enumerate(recipe.edits) if needs(edit)), len(recipe.edits))
    if first < len(recipe.edits):
        return replace(recipe, edits=recipe.edits[:first], signals=(), minhash=False), replace(recipe, edits=recipe.edits[first:])
    plain, asking = (tuple(one for one in recipe.signals if needs(one[1]) is wanted) for wanted in (False, True))
    return replace(recipe, signals=plain), replace(recipe, edits=(), signals=asking)


def consult(summary: dict[str, Any], recipe: Recipe, tools: Any) -> dict[str, Any]:
    """Finish the chunk of a summary with `recipe`, the second part of a divided one, unless an earlier run has; returns the new summary."""
    folder = Path(recipe.folder)
    name = summary["files"][0].rpartition("-")[0]
    done = folder / f"{name}.asked.json"
    if done.is_file():
        return json.loads(done.read_text())
    found: dict[str, Any] = {**summary, "files": [], "dropped": list(summary["dropped"]), "rewritten": list(summary["rewritten"])}
    for file in summary["files"]:
        made = folder / f"{file.removesuffix('.parquet')}.asked.parquet"
        (_edit if recipe.edits else _measure)(folder / file, made, recipe, found, tools)
    found["seen"] = summary["seen"]
    with aside(done) as part:
        part.write_text(json.dumps(found))
    for file in summary["files"]:
        (folder / file).unlink(missing_ok=True)
    return found


def _documents(table: Any) -> list[Doc]:
    """The documents of a chunk's table, with what the table tells of them."""
    told = (*META[1:], "bytes")
    return [Doc(row["id"], row["text"], {name: row[name] for name in told}) for row in table.select(["text", *META, "bytes"]).to_pylist()]


def _edit(file: Path, made: Path, recipe: Recipe, summary: dict[str, Any], tools: Any) -> None:
    prepare_batch(_documents(read_table(file)), recipe, made, summary, tools)


def _measure(file: Path, made: Path, recipe: Recipe, summary: dict[str, Any], tools: Any) -> None:
    """Add the columns of signals to a chunk's table, without the documents that a signal fails on."""
    import pyarrow as pa

    table = read_table(file)
    docs = _documents(table)
    good, columns, poisoned = measured(docs, recipe.signals, tools)
    if poisoned:
        kept = set(map(id, good))
        table = table.filter(pa.array([id(doc) in kept for doc in docs], pa.bool_()))
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values, pa.float64()))
    with aside(made) as part:
        write_table(table, part)
    summary["files"].append(made.name)
    summary["dropped"] += [vars(one) for one in poisoned]
