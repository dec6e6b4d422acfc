"""The training loop. It reads downward: resume, then per step the batch, gradients, update, measurements, checkpoint."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bloomery.core.errors import BadInput, CheckFailed, Interrupted
from bloomery.core.files import to_disk
from bloomery.core.log import Log
from bloomery.seams import Backward, Batch, Clock, Loss, Rng, Schedule
from bloomery.train.audit import Audit
from bloomery.train.batches import Feed
from bloomery.train.checkpoint import Checkpoints
from bloomery.train.optimizer import Optimizer
from bloomery.train.shares import shares

SHOWN = {"heldout_bpb": "bits/byte", "heldout_nats": "nats/token", "heldout_loss": ""}  # the first that is measured is shown


@dataclass(frozen=True)
class Earlier:
    """The trainer state at the end of another run of the same model."""

    tensors: Mapping[str, Tensor]
    layout: list
    steps: int
    batching: Any  # the place in the text, which means something to the batching `by` alone
    by: str


@dataclass
class Training:
    """Everything that one run is made of; nothing else influences its numbers."""

    net: nn.Module
    feed: Feed
    loss: Loss
    backward: Backward
    optimizer: Optimizer
    schedule: Schedule
    rate: float  # peak rate; the schedule gives the share of it
    total: int  # tokens to train on
    batch: int  # tokens per step
    rng: Rng
    checkpoints: Checkpoints
    curve: Path  # one JSON line per step
    log: Log
    evaluate: Callable[[], dict[str, float]] | None = None  # figures of held-out text, by the names under which the clock shows them
    evaluate_every: int = 0  # steps; 0 = only after the last
    save_every: float = 30.0  # seconds
    save_steps: int = 0  # also every so many steps; 0 = never
    stopping: Callable[[], bool] = lambda: False
    mode: dict[str, Any] = field(default_factory=dict)  # numeric mode: a checkpoint of another one is refused
    reads: bool = False  # tokens are those that are read; otherwise those that are trained
    roles: Mapping[str, nn.Module] = field(default_factory=dict)  # parts of the loss, trained along, and further models, which are not
    before_step: Callable[[Clock], None] = lambda clock: None  # what modules of the model change as the clock says
    watch: Callable[[], AbstractContextManager] = nullcontext  # around forward and backward: what is kept of activations
    earlier: Earlier | None = None  # the run that this one goes on from

    @property
    def steps_before(self) -> int:
        """Steps of earlier runs that this one goes on from."""
        return self.earlier.steps if self.earlier else 0


@dataclass
class Outcome:
    """What a finished run knows of itself."""

    clock: Clock
    loss: float
    seconds: float  # of training, over all processes that took part
    audit: dict[str, Any] | None
    resumed: bool
    numbers: dict[str, float] = field(default_factory=dict)  # of the last step


def train(run: Training) -> Outcome:
    """Train until `run.total` tokens. Raises Interrupted after saving, CheckFailed when a loss or gradient is not finite."""
    clock, audit, spent, loss, resumed = resume(run)
    numbers: dict[str, float] = {}
    if getattr(run.backward, "streams", False):
        run.optimizer.stream()
    run.net.train()
    saved = time.monotonic()
    with open(run.curve, "a", encoding="utf-8") as curve, run.log.progress("training", total=run.total, unit="tokens") as bar:
        bar.advance(clock.tokens)
        while clock.tokens < run.total:
            began = time.perf_counter()
            micros = run.feed.next(clock)
            run.before_step(clock)
            rate = run.rate * run.schedule.value(clock)
            numbers = gradients(run, clock, micros, audit)
            loss = numbers["loss"]
            run.optimizer.step(rate, run.steps_before + clock.step + 1)
            tokens = sum(counted(micro, run.reads) for micro in micros)
            clock = replace(clock, step=clock.step + 1, tokens=clock.tokens + tokens)
            audit.after_step(last=clock.tokens >= run.total)
            took = time.perf_counter() - began
            row = {"step": clock.step, "tokens": clock.tokens, "rate": rate, **numbers, "tokens_per_second": round(tokens / took, 1)}
            if due(run, clock):
                row |= run.evaluate()
                clock = replace(clock, seen={**clock.seen, **{name: row[name] for name in row if name.startswith("heldout")}})
            spent += time.perf_counter() - began
            curve.write(json.dumps({**row, "seconds": round(spent, 3)}) + "\n")
            bar.advance(tokens, note(row))
            stopping = run.stopping()
            if stopping or clock.tokens >= run.total or is_time(run, clock, saved):
                save(run, clock, audit, spent, loss, curve)
                saved = time.monotonic()
            if stopping and clock.tokens < run.total:
                done = f"{clock.tokens:,} of {run.total:,} tokens"
                raise Interrupted(f"stopped after step {clock.step} ({done}); the state is saved, the same command goes on")
    return Outcome(clock, loss, spent, audit.verdict, resumed, numbers)


def gradients(run: Training, clock: Clock, micros: list[Batch], audit: Audit) -> dict[str, float]:
    """Leave the gradients of the whole step in the optimizer's buffer: sums over all micro-batches, each over its denominator."""
    rng = run.rng.child("step", run.steps_before + clock.step)
    value = shares(run.loss, {"net": run.net, **run.roles}, micros, rng)
    with run.watch():
        numbers = run.backward.backward(run.net, micros, value, rng.child("backward"))
    grads = run.optimizer.collect()
    audit.gradients(grads)
    if hasattr(run.backward, "transform"):
        numbers = {**numbers, **run.backward.transform(grads)}
    bad = next((name for name, number in numbers.items() if not math.isfinite(number)), None)
    if bad is None and "grad_norm" not in numbers and not bool(torch.isfinite(run.optimizer.grad).all()):
        bad = "gradient"
    if bad:
        names = run.feed.names()
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        raise CheckFailed(f"{bad} is not finite at step {clock.step + 1}; lower the rate or look at the documents of this step: {shown}")
    return numbers


def resume(run: Training) -> tuple[Clock, Audit, float, float, bool]:
    """Clock, audit, seconds spent, last loss: from the newest checkpoint, or from zero after the save path has been rehearsed.

    Raises CheckFailed for a checkpoint of another model or seed, BadInput for one of another numeric mode: its run would end in
    numbers that neither mode gives.
    """
    found = run.checkpoints.newest()
    if found is None:
        go_on(run)
        clock = Clock(0, 0, run.batch, float(run.total))
        audit = Audit(run.net, run.optimizer)
        run.curve.write_text("")
        with open(run.curve, "a", encoding="utf-8") as curve:
            save(run, clock, audit, 0.0, 0.0, curve)
        if run.checkpoints.newest() is None:
            raise CheckFailed(f"a checkpoint written to {run.checkpoints.folder} cannot be read back; this disk cannot be trained on")
        return clock, audit, 0.0, 0.0, False
    tensors, state = found
    if state["layout"] != run.optimizer.layout() or state["rng"] != list(run.rng.key):
        raise CheckFailed(f"the checkpoint in {run.checkpoints.folder} belongs to another model or seed; remove that folder to begin anew")
    if state["mode"] != run.mode:
        raise BadInput(
            f"the checkpoint in {run.checkpoints.folder} was made with {state['mode']} and this process has {run.mode}; "
            "go on with the former, or remove that folder to begin anew"
        )
    run.optimizer.load(tensors)
    run.feed.state = state["batching"]
    clock = Clock(**state["clock"])
    kept = cut_curve(run.curve, clock.step)
    if kept < clock.step:
        run.log.say(f"the curve has lost {clock.step - kept} of its {clock.step} steps; the weights are not touched by that")
    if clock.step:
        run.log.say(f"goes on after step {clock.step} ({clock.tokens:,} of {run.total:,} tokens)")
    return clock, Audit(run.net, run.optimizer, state["audit"]), state["seconds"], state["loss"], clock.step > 0


def go_on(run: Training) -> None:
    """Weights, optimizer state and place in the text as an earlier run left them; BadInput for one of another model or optimizer."""
    if run.earlier is None:
        return
    tensors = run.optimizer.tensors()
    same = {name: t.shape for name, t in tensors.items()} == {name: t.shape for name, t in run.earlier.tensors.items()}
    if run.earlier.layout != run.optimizer.layout() or not same:
        raise BadInput("after: that model was trained with another shape, optimizer or loss; state the same, or name it as `start`")
    run.optimizer.load({name: t.clone() for name, t in run.earlier.tensors.items()})
    if run.earlier.by == repr(run.feed.batching):
        run.feed.state = run.earlier.batching


def save(run: Training, clock: Clock, audit: Audit, spent: float, loss: float, curve: Any) -> None:
    """The curve first, so that it is never behind the checkpoint."""
    curve.flush()
    os.fsync(curve.fileno())
    state = {
        "clock": asdict(replace(clock, seen=dict(clock.seen))),
        "batching": run.feed.state,
        "rng": list(run.rng.key),
        "layout": run.optimizer.layout(),
        "mode": run.mode,
        "audit": audit.verdict,
        "seconds": spent,
        "loss": loss,
    }
    run.checkpoints.save(clock.step, run.optimizer.tensors(), state)
    run.log.event("checkpoint", step=clock.step)


def cut_curve(path: Path, step: int) -> int:
    """Drop what was written after the checkpoint of `step`, a torn last line included; returns the lines kept.

    Written aside and renamed, so that a kill here leaves the old curve or the new one.
    """
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError):
            break
    aside = path.with_name(f"{path.name}.tmp")
    aside.write_text("".join(kept), encoding="utf-8")
    to_disk(aside)
    os.replace(aside, path)
    return len(kept)


def counted(micro: Batch, reads: bool) -> int:
    """Tokens of a micro-batch by which a run is measured; padding never counts."""
    return int(torch.count_nonzero(micro.documents >= 0 if reads else micro.weights))


def due(run: Training, clock: Clock) -> bool:
    """Whether held-out text is measured after this step."""
    if run.evaluate is None:
        return False
    return clock.tokens >= run.total or bool(run.evaluate_every and clock.step % run.evaluate_every == 0)


def is_time(run: Training, clock: Clock, saved: float) -> bool:
    """Whether a checkpoint is due: by seconds, which never change the numbers, or by steps."""
    by_steps = run.save_steps and clock.step % run.save_steps == 0
    return bool(by_steps) or time.monotonic() - saved >= run.save_every


def note(row: Mapping[str, Any]) -> str:
    """What is worth reading while it trains."""
    shown = [f", held out {row[name]:.3f} {unit}".rstrip() for name, unit in SHOWN.items() if name in row][:1]
    return f"loss {row['loss']:.3f}{''.join(shown)}, {row['tokens_per_second']:,.0f} tokens/s"
