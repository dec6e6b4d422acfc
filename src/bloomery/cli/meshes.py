"""`bloomery plan --cluster`: the meshes of a cluster that is not here, ranked by what a step is predicted to take."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.core.errors import BadInput

if TYPE_CHECKING:
    from bloomery.nn.config import Config
    from bloomery.num.clusters import Cluster

COLUMNS = ("mesh", "zero", "micro", "twice", "chunks", "seconds", "tokens/s", "TFLOP/s", "compute", "bubble", "sent", "memory")
SHOWN = 6  # reasons that are shown of those why meshes cannot be


def show_meshes(cluster: str, name: str, job: dict[str, Any], top: int, as_json: bool) -> None:
    """Print the best meshes for a job (see the planner `ranked`), how many cannot be, with the reasons, and where the recipe's `own` is.
    BadInput where none can."""
    from bloomery.cli.tables import show_json, show_table
    from bloomery.core.catalog import build_method
    from bloomery.core.mesh import written as mesh
    from bloomery.num.clusters import cluster_of

    on = cluster_of(cluster)
    found = build_method("planner", "ranked").plan({**job, "able": able(job["config"], job["context"])}, vars(on), None)
    rows = [row(one, job, on) for one in found["meshes"][:top]]
    if as_json:
        show_json([*rows, {"rejected": found["rejected"], "bound": found["bound"], "least": found.get("least")}])
        return
    if not rows:
        raise BadInput(f"--cluster: no mesh of {on.devices} devices trains {name}: {'; '.join(reasons(found))}")
    cfg = job["config"]
    print(f"{name}: {cfg.parameters() / 1e9:,.2f} G parameters, {job['rows']} rows of {job['context']} tokens a step, {on.devices} devices")
    show_table(COLUMNS, [tuple(written(name, one) for name in COLUMNS) for one in rows], right=COLUMNS[1:])
    print(f"\n{len(found['meshes']):,} can be; rejected: {'; '.join(reasons(found)) or 'none'}")
    if own := job.get("own"):
        print(f"the recipe's own {mesh(own)} {place_of(own, found, on.devices)}")


def able(cfg: Config, context: int) -> Callable[[Mapping[str, int]], str]:
    """What the usual methods of the axes refuse of this model."""
    from bloomery.core.catalog import build_method
    from bloomery.core.mesh import AXES
    from bloomery.stages._mesh import USUAL

    methods = {axis: build_method("parallel", USUAL[axis]) for axis in AXES if axis in USUAL}

    def why(sizes: Mapping[str, int]) -> str:
        usual = {**dict.fromkeys(AXES, 1), **sizes}
        told = (one.unfit(cfg, context, usual) for axis, one in methods.items() if sizes.get(axis, 1) > 1)
        return next(filter(None, told), "")

    return why


def row(one: Mapping[str, Any], job: Mapping[str, Any], on: Cluster) -> dict[str, Any]:
    """A mesh with what it gives: tokens a second of all devices, and useful operations a second of each."""
    took, many = one["seconds_terms"], job["rows"] * job["context"]
    useful = many * job["config"].flops_per_token(job["context"]) / one["seconds"] / on.devices
    shares = {"compute": took["compute"], "bubble": took.get("bubble", 0.0)}
    shares["sent"] = sum(took.values()) - sum(shares.values()) - took["update"]
    parts = {name: value / one["seconds"] for name, value in shares.items()}
    return {**one, **parts, "tokens/s": many / one["seconds"], "TFLOP/s": useful / 1e12}


def place_of(own: Mapping[str, int], found: Mapping[str, Any], devices: int) -> str:
    """Where the mesh of a recipe is among the ranked ones, in words."""
    from bloomery.core.mesh import AXES, counted

    if (needs := prod(own.values())) != devices:
        return f"takes {counted(needs)}, and the cluster has {devices} devices"
    sizes = {axis: own.get(axis, 1) for axis in AXES}
    at = next((number for number, one in enumerate(found["meshes"], 1) if one["sizes"] == sizes), 0)
    if not at:
        return "is not among those that can be"
    one = found["meshes"][at - 1]
    return f"takes {one['seconds']:,.2f} s a step and {written('memory', one)} of a device, place {at:,} of {len(found['meshes']):,}"


def reasons(found: Mapping[str, Any]) -> list[str]:
    """Why meshes cannot be, the most frequent first."""
    from bloomery.core.mesh import written as mesh

    told = []
    for why, count in sorted(found["rejected"].items(), key=lambda one: -one[1]):
        if why == "memory":
            least = found["least"]
            needs = f"{mesh(least['sizes']) or '{}'} with {least['memory'] / 1e9:,.2f} GB misses it by least"
            why = f"more than {found['bound'] / 1e9:,.1f} GB of a device ({needs})"
        told.append(f"{count:,} {why}")
    return told if len(told) <= SHOWN else [*told[:SHOWN], f"{len(told) - SHOWN} reasons more"]


def written(name: str, one: Mapping[str, Any]) -> str:
    from bloomery.core.mesh import written as mesh

    if name == "mesh":
        return mesh(one["sizes"]) or "{}"
    if name == "zero":
        return str(one["stage"]) if one["sizes"]["shard"] > 1 else ""
    if name == "twice":
        return "yes" if one["again"] else ""
    if name == "chunks":
        return str(one["chunks"]) if one["chunks"] > 1 else ""
    if name in ("compute", "bubble", "sent"):
        return f"{one[name]:.0%}"
    if name == "memory":
        return f"{one[name] / 1e9:,.1f} GB"
    return f"{one[name]:,.0f}" if name in ("tokens/s", "TFLOP/s") else f"{one[name]:,.2f}" if name == "seconds" else str(one[name])


def shape(model: str) -> Config:
    """A shape that is known by name, or that of a folder with model.json or config.json."""
    from bloomery.nn.config import Config
    from bloomery.nn.shapes import named

    folder = Path(model)
    if (folder / "model.json").is_file():
        return Config.read(folder / "model.json")
    if (folder / "config.json").is_file():
        from bloomery.nn.hf import read_config

        return read_config(json.loads((folder / "config.json").read_text(encoding="utf-8")), folder / "config.json")
    return named(model)


def job_of(cfg: Config, batch: int, context: int) -> dict[str, Any]:
    """A step of so many tokens in rows of `context`, 0: as many as the model reads."""
    context = context or cfg.context
    if batch < context:
        raise BadInput(f"--batch: a step of {batch:,} tokens holds no row of {context:,}; say a larger one, or a smaller --context")
    return {"config": cfg, "rows": batch // context, "context": context}


def jobs_of(planned: list) -> dict[str, dict[str, Any]]:
    """The training steps of a planned recipe, as jobs by name, each with its `own` mesh, where the recipe names one."""
    from bloomery.nn.config import Config

    found = {}
    for entry in planned:
        facts = entry.made.card["forecast"]["facts"] if entry.made else entry.forecast.facts
        if {"config", "rows", "tokens", "steps"} <= facts.keys():
            given = {name: tuple(value) if isinstance(value, list) else value for name, value in facts["config"].items()}
            context = round(facts["tokens"] / facts["steps"] / facts["rows"])
            found[entry.step.name] = {"config": Config(**given), "rows": facts["rows"], "context": context, "own": facts.get("mesh")}
    if not found:
        raise BadInput("--cluster: the recipe trains nothing; name a model with --model")
    return found
