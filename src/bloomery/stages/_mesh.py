"""How a training step is laid over the processes that share it: refused before any work where it cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bloomery.core import catalog
from bloomery.core.errors import BadInput
from bloomery.core.job import Forecast
from bloomery.core.mesh import AXES, arranged
from bloomery.core.ranks import here

# the method of each axis, where the recipe names none
USUAL = {"data": "zero", "shard": "zero", "context": "ulysses", "tensor": "megatron_tensor"}


def methods(stage: Any) -> tuple[Any, ...]:
    """The methods of all axes: those of the recipe, and the usual ones; BadInput where two claim one axis."""
    found, claimed = [], {}
    for one in stage.parallel:
        one = catalog.build_method("parallel", one) if isinstance(one, dict | str) else one
        name = next(iter(catalog.spec(one)))
        for axis in one.axes:
            if axis in claimed:
                raise BadInput(f"parallel: {claimed[axis]} and {name} both lay out the axis {axis}; leave one out")
            claimed[axis] = name
        found.append(one)
    missing = dict.fromkeys(USUAL[axis] for axis in AXES if axis not in claimed)
    return (*found, *(catalog.build_method("parallel", name) for name in missing))


def sizes(stage: Any, cfg: Any, row: int) -> dict[str, int]:
    """The mesh of the processes that were started; BadInput, with the nearest that works, where the model or the run cannot lie on it."""
    able = methods(stage)

    def unfit(wish: Mapping[str, int]) -> str:
        told = (one.unfit(cfg, row, wish) for one in able if any(wish[axis] > 1 for axis in one.axes))
        return next(filter(None, told), "") or refused(stage, wish)

    return arranged(stage.mesh, here().size, unfit)


def launch(stage: Any, forecast: Forecast) -> None:
    """BadInput where the processes that were started cannot train what is forecast."""
    from bloomery.nn.config import Config

    sizes(stage, Config(**forecast.facts["config"]), stage.context)


def refused(stage: Any, wish: Mapping[str, int]) -> str:
    """Why what else the stage does cannot be shared so, "" where it can."""
    if all(size == 1 for size in wish.values()):
        return ""
    named = {seam: next(iter(catalog.spec(getattr(stage, seam)))) for seam in ("backward", "loss")}
    if not getattr(stage.backward, "divides", False):
        return f"backward: {named['backward']} needs all rows of a step in one process"
    cut = [axis for axis in wish if axis != "data" and wish[axis] > 1]
    if not cut:
        return ""
    if knob := next((one for one in ("saved", "modules", "after", "keep_state") if getattr(stage, one, None)), ""):
        return f"{knob}: it goes with copies of the whole model, and {cut[0]} cuts it"
    if "tensor" in cut and getattr(stage, "adapter", None) is not None:
        return "adapter: adapted matrices are not cut by tensor yet; shard does that"
    if getattr(stage.backward, "opens", False) or getattr(stage.loss, "opens", False):
        return f"{named['backward']} and {named['loss']} look inside the model, which {cut[0]} cuts"
    if hasattr(stage.loss, "parts"):
        return f"loss: {named['loss']} has parts of its own, and {cut[0]} cuts the model alone"
    if "context" in cut and hasattr(stage.loss, "look"):
        return f"loss: {named['loss']} looks at whole rows, and context cuts them"
    mode = stage.mode()
    if mode["compile"]:
        return f"compile: compiled blocks go with copies of the whole model, and {cut[0]} cuts it; `compile: off` goes with it"
    return f"precision: float8 goes with copies of the whole model, and {cut[0]} cuts it" if mode["precision"] == "float8" else ""


def mesh(stage: Any, cfg: Any, row: int, job: Any) -> Any:
    """The mesh that a run trains on; that of one process where nobody shares the step."""
    from bloomery.stages._training import device_of
    from bloomery.train import precision
    from bloomery.train.mesh import ALONE, Mesh

    if job.ranks.size == 1:
        return ALONE
    mode, found = stage.mode(), sizes(stage, cfg, row)
    made = Mesh(found, methods(stage), device_of(mode), precision.dtype(mode["precision"]), job.ranks.patience)
    job.fact("mesh", {axis: size for axis, size in found.items() if size > 1})
    job.log.say(f"{job.ranks.size} processes as {made}")
    return made


def mover(net: Any, stage: Any, mesh: Any, job: Any, rates: Any = None) -> Any:
    """Lay the model over the mesh and give what moves it."""
    from bloomery.train import precision
    from bloomery.train.sharded import placed

    dtype, rng = precision.dtype(stage.mode()["precision"]), job.rng.child("optimizer")
    return placed(net, mesh, stage.optimizer, rng, stage.decay, dtype, stage.rest, rates)
