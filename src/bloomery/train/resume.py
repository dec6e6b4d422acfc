"""Where a run stands: from the newest checkpoint or from zero, saved, and gone back to."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from bloomery.core.errors import BadInput, CheckFailed
from bloomery.core.files import FULL
from bloomery.num.clipping import local
from bloomery.seams import Clock
from bloomery.train.audit import Audit
from bloomery.train.curve import Curve, cut_curve
from bloomery.train.run import Training


@dataclass
class Standing:
    """What changes from step to step beside weights, optimizer and feed."""

    clock: Clock
    audit: Audit
    seconds: float = 0.0  # of training so far
    resumed: bool = False
    numbers: dict[str, float] = field(default_factory=dict)  # of the last step

    @property
    def loss(self) -> float:
        """Of the last step."""
        return self.numbers.get("loss", 0.0)


def resume(run: Training) -> Standing:
    """From the newest checkpoint, or from zero after the save path has been rehearsed.

    Raises CheckFailed for a checkpoint of another model or seed, BadInput for one of another numeric mode: its run would end in
    numbers that neither mode gives.
    """
    found = run.checkpoints.newest(into=held(run), sound=lambda state: demand_same(run, state))
    if run.checkpoints.damaged:
        names = ", ".join(folder.name for folder in run.checkpoints.damaged)
        run.log.say(f"damaged and passed over: {names} in {run.checkpoints.folder}{'' if found else '; the run begins anew'}")
    if found is None:
        return begin(run)
    state = found[1]
    at = restore(run, *found)
    if state["mesh"] != str(run.mesh):
        run.log.say(f"the checkpoint was written on the mesh {state['mesh']}, this is {run.mesh}: the last digits may differ from here on")
    run.feed.state = state["batching"]
    run.guard.load(state.get("spikes"))
    kept = cut_curve(run.curve, at.clock.step)
    if kept < at.clock.step:
        run.log.say(f"the curve has lost {at.clock.step - kept} of its {at.clock.step} steps; the weights are not touched by that")
    if at.clock.step:
        run.log.say(f"goes on after step {at.clock.step} ({at.clock.tokens:,} of {run.total:,} tokens)")
    return at


def demand_same(run: Training, state: Mapping[str, Any]) -> None:
    """CheckFailed or BadInput for a checkpoint that this run cannot go on from, as `resume` says."""
    if state["layout"] != run.optimizer.layout() or state["rng"] != list(run.rng.key):
        raise CheckFailed(f"the checkpoint in {run.checkpoints.folder} belongs to another model or seed; remove that folder to begin anew")
    if state["mode"] != run.mode:
        raise BadInput(
            f"the checkpoint in {run.checkpoints.folder} was made with {state['mode']} and this process has {run.mode}; "
            "go on with the former, or remove that folder to begin anew"
        )


def held(run: Training) -> dict[str, Tensor]:
    """All tensors that a checkpoint must hold."""
    return {**run.optimizer.tensors(), **changing(run.net)}


def changing(net: nn.Module) -> dict[str, Tensor]:
    """Buffers of units that are `unsteady`: what such a unit knows of the steps so far."""
    units = ((name, unit) for name, unit in net.named_modules() if getattr(unit, "unsteady", False))
    return {f"buffer|{name}.{key}": t for name, unit in units for key, t in unit.named_buffers()}


def take(run: Training, tensors: Mapping[str, Tensor]) -> None:
    """Back what `held` gave."""
    run.optimizer.load(tensors)
    for name, t in changing(run.net).items():
        t.copy_(tensors[name])


def restore(run: Training, tensors: dict, state: dict[str, Any]) -> Standing:
    """Weights, optimizer state and clock of a checkpoint."""
    take(run, tensors)
    clock = Clock(**state["clock"])
    audit = Audit(run.net, run.optimizer, state["audit"], run.mesh, state["silent"])
    return Standing(clock, audit, state["seconds"], clock.step > 0, state["numbers"])


def begin(run: Training) -> Standing:
    """Step 0. It is saved and read back, so that a disk that cannot be trained on is named before any work."""
    go_on(run)
    at = Standing(Clock(0, 0, run.batch, float(run.total)), Audit(run.net, run.optimizer, mesh=run.mesh))
    folder = run.checkpoints.folder
    try:
        run.guard.load(None)
        run.curve.write_text("")
        with Curve(run.curve) as curve:
            save(run, at, curve)
        run.checkpoints.wait()
    except OSError as wrong:
        if wrong.errno in FULL:
            raise
        raise BadInput(f"checkpoints: {folder} cannot be written to ({wrong.strerror or wrong}); choose another --store") from wrong
    now = held(run)
    again = run.checkpoints.newest(into={name: torch.zeros_like(t) for name, t in now.items()})
    if again is None or not all(torch.equal(stored(t), stored(again[0][name])) for name, t in now.items()):
        raise CheckFailed(f"a checkpoint written to {folder} cannot be read back; this disk cannot be trained on")
    each, free = run.checkpoints.bytes(), shutil.disk_usage(folder).free
    if free < (needed := each * max(1, run.checkpoints.keep)):
        sizes = f"{needed / 1e6:,.1f} MB more are needed and {free / 1e6:,.1f} MB are free"
        raise BadInput(f"checkpoints: the disk of {folder} has no room for those that are kept ({sizes}); free some, then run again")
    return at


def stored(t: Tensor) -> Tensor:
    """The bytes that this rank holds of a tensor: numbers that are none are equal, too."""
    return local(t).contiguous().reshape(-1).view(torch.uint8)


def go_on(run: Training) -> None:
    """Weights, optimizer state and place in the text as an earlier run left them; BadInput for one of another model or optimizer."""
    if run.earlier is None:
        return
    tensors = held(run)
    same = {name: t.shape for name, t in tensors.items()} == {name: t.shape for name, t in run.earlier.tensors.items()}
    if run.earlier.layout != run.optimizer.layout() or not same:
        raise BadInput("after: that model was trained with another shape, optimizer or loss; state the same, or name it as `start`")
    take(run, run.earlier.tensors)
    if run.earlier.by == run.feed.order():
        run.feed.state = run.earlier.batching
    else:
        run.log.say("other text, or in another order, than that of the run before: it is read from its beginning")


def save(run: Training, at: Standing, curve: Curve) -> None:
    """Begin a checkpoint; the curve and copies of the weights first, so that they are never behind it. CheckFailed where ranks that
    should hold the same weights do not: what goes on from there would be of no use."""
    if not run.mesh.cuts and (apart := run.mesh.apart(run.optimizer.masters())):
        raise CheckFailed(f"{apart} parameters differ between ranks after step {at.clock.step}; one of the machines reckons wrongly")
    curve.to_disk()
    if run.weights is not None:
        run.weights.wait()
    state = {
        "clock": asdict(replace(at.clock, seen=dict(at.clock.seen))),
        "batching": run.feed.state,
        "rng": list(run.rng.key),
        "layout": run.optimizer.layout(),
        "mode": run.mode,
        "mesh": str(run.mesh),
        "audit": at.audit.verdict,
        "silent": sorted(at.audit.silent),
        "seconds": at.seconds,
        "numbers": at.numbers,
        "spikes": run.guard.state(),
    }
    run.checkpoints.begin(at.clock.step, held(run), state)


def go_back(run: Training, at: Standing, curve: Curve) -> Standing:
    """Weights and optimizer as in the last checkpoint that a step count asked for; the text goes on, so that the rows read since, this
    step's among them, are left out. Saved at once: a run killed later goes on from here. CheckFailed where this was tried too often.
    """
    tensors, state = run.checkpoints.newest(anchored=True, into=held(run))
    back = restore(run, tensors, state)
    step = back.clock.step
    if not run.guard.go_back(step):
        raise CheckFailed(f"the loss leaps again and again after step {step}, whatever rows follow; lower the rate")
    run.guard.losses.clear()
    run.guard.losses.extend(state["spikes"]["losses"])
    curve.cut(step)
    run.log.say(f"goes back to step {step}; the rows of steps {step + 1} to {at.clock.step + 1} are left out")
    save(run, replace(back, seconds=at.seconds), curve)
    run.checkpoints.wait()
    for kept in filter(None, (run.weights, run.checkpoints)):
        kept.forget_after(step)
    return replace(back, seconds=at.seconds, resumed=at.resumed)
