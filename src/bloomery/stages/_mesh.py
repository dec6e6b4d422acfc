"""How a training step is laid over the processes that share it: refused before any work where it cannot be."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from bloomery.core import catalog
from bloomery.core.errors import BadInput
from bloomery.core.job import Forecast
from bloomery.core.mesh import AXES, arranged, written
from bloomery.core.ranks import here
from bloomery.num.step_cost import Layout
from bloomery.stages import _planned

# the method of each axis, where the recipe names none
USUAL = {
    "data": "zero", "shard": "zero", "context": "ulysses", "tensor": "megatron_tensor", "pipeline": "one_f_one_b",
    "expert": "expert_parallel",
}  # fmt: skip
# the methods of each axis whose arithmetic num/step_cost.py has
COUNTED = {
    "data": ("zero",), "shard": ("zero",), "context": ("ulysses",), "tensor": ("megatron_tensor", "vocabulary_parallel"),
    "pipeline": ("one_f_one_b", "interleaved_pipeline"), "expert": ("expert_parallel",),
}  # fmt: skip
MOST = 1 << 16  # processes of a mesh


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
    if len(homes := [next(iter(catalog.spec(one))) for one in found if hasattr(one, "pieces")]) > 1:
        raise BadInput(f"parallel: {' and '.join(homes)} all say where the optimizer's state lies; leave all but one out")
    missing = dict.fromkeys(USUAL[axis] for axis in AXES if axis not in claimed)
    return (*found, *(catalog.build_method("parallel", name) for name in missing))


def shelved(stage: Any) -> bool:
    """Whether a method of the recipe keeps the optimizer's masters and states on a disk."""
    return any(where == "disk" for one in stage.parallel if hasattr(one, "pieces") for _, _, where, _ in one.pieces(1))


def laid(stage: Any, cfg: Any, row: int) -> dict[str, Any]:
    """Fields of `Load`: how the recipe or the launch lays the step over processes, and what no formula of that layout knows. BadInput, with
    the nearest mesh that works, where it cannot be."""
    demand(stage)
    sizes = expected(stage, cfg, row)
    by = {axis: by_axis(stage, axis) for axis, size in sizes.items() if size > 1}
    pipe, cut = by.get("pipeline"), by.get("tensor")
    more = {"again": getattr(pipe, "again", False), "chunks": getattr(pipe, "stages", 1)}
    layout = Layout(**sizes, stage=_planned.zero(stage), **more)
    how = {"sequence": getattr(getattr(cut, "inner", cut), "sequence", False), "tables": hasattr(cut, "inner")}
    how |= {"handed": handed(pipe, layout.pipeline), "averaged": averaged(stage)}
    if "context" in by:
        how["across"] = next(iter(catalog.spec(by["context"])))
    return {"cfg": cfg, "layout": layout, **how, "aside": aside(stage, cfg, row, layout, by)}


def expected(stage: Any, cfg: Any, row: int) -> dict[str, int]:
    """The sizes of the axes: those of the recipe; for `auto` what is planned for the processes that were started, before links are
    measured."""
    size = here().size
    if stage.mesh == "auto" and size == 1:
        return {}
    able = unfit(stage, cfg, stage.context)
    if stage.mesh != "auto":
        named = math.prod(max(1, one) for one in stage.mesh.values())
        if named > MOST:
            raise BadInput(f"mesh: {written(stage.mesh)} takes {named:,} processes, and no more than {MOST:,} are laid out here")
        return arranged(stage.mesh, size if size > 1 else named, able)
    return _planned.chosen(stage, cfg, row, able, _planned.cluster(stage.mode()), {})[0]


def handed(pipe: Any, ranks: int) -> int:
    """How often the fullest rank of a pipeline sends for a micro-batch: forward and backward for each of its runs of blocks, but for those
    at the ends of the model, which of two ranks each has one of; where runs go there and back one rank has both, and the other the turn."""
    runs = getattr(pipe, "stages", 2 if hasattr(pipe, "order") else 1)
    return 2 * runs - (ranks == 2) * (2 if getattr(pipe, "order", "") == "v" else 1)


def averaged(stage: Any) -> float:
    """Of a sum of gradients over copies, what these send in the mean of many steps: all of it, or weights and two moments now and then."""
    return next((3 / one.every for one in stage.parallel if not one.exact), 1.0)


def aside(stage: Any, cfg: Any, row: int, layout: Layout, by: Mapping[str, Any]) -> str:
    """What a layout has of its own that the formulas do not know, "" for nothing."""
    names = {axis: next(iter(catalog.spec(one))) for axis, one in by.items()}
    other = {axis: name for axis, name in names.items() if name not in COUNTED[axis]}
    told = [f"{name}, {'' if axis == 'shard' else 'but for what it sends '}counted as {COUNTED[axis][0]}" for axis, name in other.items()]
    local = (next(iter(catalog.spec(one))) for one in stage.parallel if not one.exact)
    told += [f"{name}, but for what it sends counted as gradients that are shared" for name in local]
    if cfg.layers % (layout.pipeline * layout.chunks):
        told.append("stages of unlike size, counted as even")
    if layout.shard * layout.tensor > 1 and stage.optimizer.scope == "matrix":
        told.append("whole matrices that the optimizer gathers")
    if layout.sharers > (rows := max(1, stage.batch // row)):
        told.append(f"rows of padding alone in {layout.sharers - rows} of {layout.sharers} parts of a step, which has {rows} rows")
    return ", ".join(told)


def resident(stage: Any) -> int:
    """Blocks whose weights are in memory at a time, where a method of the recipe keeps those of all on a disk; 0 where none does."""
    return next((one.resident for one in stage.parallel if hasattr(one, "resident")), 0)


def unfit(stage: Any, cfg: Any, row: int) -> Callable[[Mapping[str, int]], str]:
    """Says why the model or the run cannot lie on a mesh, "" where they can."""
    able = methods(stage)

    def why(wish: Mapping[str, int]) -> str:
        told = (one.unfit(cfg, row, wish) for one in able if not one.axes or any(wish[axis] > 1 for axis in one.axes))
        return next(filter(None, told), "") or refused(stage, wish)

    return why


def launch(stage: Any, forecast: Forecast) -> None:
    """BadInput, with the nearest mesh that works, where the processes that were started cannot train what is forecast."""
    from bloomery.nn.config import Config

    cfg, size = Config(**forecast.facts["config"]), here().size
    demand(stage)
    wish = stage.mesh if size == 1 else expected(stage, cfg, stage.context or cfg.context)
    arranged(wish, size, unfit(stage, cfg, stage.context))


def demand(stage: Any) -> None:
    """BadInput for what no number of processes and no other mesh would mend."""
    _planned.demand(stage)
    paced(stage)
    if resident(stage) and "device" in stage.mode():
        raise BadInput("parallel: superpipeline brings blocks from a disk to a processor's memory; say `device: cpu`, or take zero_offload")


def paced(stage: Any) -> None:
    """BadInput where copies that step by themselves would be saved while they differ, or the result hang on a planner's choice."""
    for one in stage.parallel:
        if one.exact:
            continue
        name, every = next(iter(catalog.spec(one))), one.every
        if stage.mesh == "auto":
            raise BadInput(f"mesh: what {name} gives depends on how many copies there are; say it, such as `mesh: {{data: 2}}`")
        for knob in ("checkpoint_steps", "weights_every"):
            if getattr(stage, knob) % every:
                raise BadInput(f"{knob}: copies are the same every {every} steps ({name}); say a multiple of that")


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
    if home := next((one for one in stage.parallel if hasattr(one, "pieces")), None):
        return f"parallel: {next(iter(catalog.spec(home)))} keeps the states of whole parameters, and {cut[0]} cuts the model"
    if knob := next((one for one in ("saved", "modules", "after", "keep_state", "keep_zeros") if getattr(stage, one, None)), ""):
        return f"{knob}: it goes with copies of the whole model, and {cut[0]} cuts it"
    if getattr(stage, "adapter", None) is not None and "tensor" in cut:
        names = {seam: next(iter(catalog.spec(one))) for seam, one in (("adapter", stage.adapter), ("by", by_axis(stage, "tensor")))}
        if catalog.attribute("adapter", stage.adapter, "whole"):
            return f"adapter: {names['adapter']} reads whole matrices, and tensor cuts them; shard goes with it"
        if not getattr(by_axis(stage, "tensor"), "adapts", False):
            return f"adapter: {names['by']} as it is set here does not cut adapters; megatron_tensor without sequence does"
    if "expert" in cut and getattr(getattr(stage, "adapter", None), "dropout", 0):
        return "adapter: dropout goes by the order of an expert's tokens, which expert changes; say `dropout: 0`"
    if getattr(stage.backward, "opens", False) or getattr(stage.loss, "opens", False):
        return f"{named['backward']} and {named['loss']} look inside the model, which {cut[0]} cuts"
    if getattr(stage, "roles", None) and (axis := next((axis for axis in cut if axis != "shard"), "")):
        return f"roles: a further model reads whole rows with weights of its own, and {axis} cuts them; shard goes with it"
    if hasattr(stage.loss, "parts"):
        return f"loss: {named['loss']} has parts of its own, and {cut[0]} cuts the model alone"
    if "pipeline" in cut and hasattr(stage.loss, "look"):
        return f"loss: {named['loss']} looks at the whole model, and pipeline cuts it"
    if "context" in cut and hasattr(stage.loss, "look"):
        return f"loss: {named['loss']} looks at whole rows, and context cuts them"
    mode = stage.mode()
    asking = (next(iter(catalog.spec(one))) for one in methods(stage) if getattr(one, "eager", False) and set(one.axes) & set(cut))
    if mode["compile"] and (name := next(asking, "")):
        return f"compile: {name} does not go with compiled blocks; `compile: off` does"
    return f"precision: float8 goes with copies of the whole model, and {cut[0]} cuts it" if mode["precision"] == "float8" else ""


def by_axis(stage: Any, axis: str) -> Any:
    """The method that lays out an axis."""
    return next(one for one in methods(stage) if axis in one.axes)


def mesh(stage: Any, cfg: Any, row: int, job: Any) -> Any:
    """The mesh that a run trains on; that of one process where nobody shares the step."""
    from bloomery.stages._training import device_of
    from bloomery.train import precision
    from bloomery.train.mesh import ALONE, met

    if job.ranks.size == 1:
        return ALONE
    mode, able = stage.mode(), unfit(stage, cfg, row)
    found = arranged(_planned.agreed(stage, cfg, row, able, job) if stage.mesh == "auto" else stage.mesh, job.ranks.size, able)
    made = met(found, methods(stage), device_of(mode), precision.dtype(mode["precision"]), job.ranks.patience)
    job.fact("mesh", {axis: size for axis, size in found.items() if size > 1})
    job.log.say(f"{job.ranks.size} processes as {made}")
    return made


def mover(net: Any, stage: Any, mesh: Any, job: Any, rates: Any = None) -> Any:
    """Lay the model over the mesh and give what moves it; BadInput where zeros are to be kept and there is none."""
    from bloomery.stages._training import unread
    from bloomery.train import precision
    from bloomery.train.sharded import placed

    if told := unread(stage):
        job.log.say(told)
    dtype, rng = precision.dtype(stage.mode()["precision"]), job.rng.child("optimizer")
    home = next((one for one in methods(stage) if hasattr(one, "pieces")), None)
    made = placed(net, mesh, stage.optimizer, rng, stage.decay, dtype, stage.rest, rates, home, job.work / "states")
    if home is not None:
        job.fact("optimizer_lies", made.places())
    if stage.keep_zeros and not made.keep_zeros():
        raise BadInput("keep_zeros: no matrix of the blocks holds a zero to keep; begin with a model that was pruned, or leave it out")
    return made
