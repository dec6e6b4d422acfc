"""The training loop. It reads downward: resume, then per step the batch, gradients, update, measurements, checkpoint."""

from __future__ import annotations

import math
import time
from dataclasses import replace

from bloomery.core.errors import CheckFailed, Interrupted
from bloomery.seams import Batch, Clock
from bloomery.train.audit import Audit
from bloomery.train.curve import Curve
from bloomery.train.device import on, where
from bloomery.train.metrics import bits_per_byte, memory, note, speed, tally
from bloomery.train.resume import Standing, go_back, resume, save
from bloomery.train.run import Earlier, Outcome, Training
from bloomery.train.shares import shares
from bloomery.train.trackers import tracking
from bloomery.train.watchdog import watching

__all__ = ["Earlier", "Outcome", "Training", "gradients", "train"]


def train(run: Training) -> Outcome:
    """Train until `run.total` tokens. Raises Interrupted after saving, CheckFailed when a loss or gradient is not finite."""
    run.feed.part, run.feed.looks = run.mesh.rows, run.mesh.many and hasattr(run.loss, "look")
    at = resume(run)
    if getattr(run.backward, "streams", False):
        run.optimizer.stream()
    run.net.train()
    device = where(run.net)
    saved, first = time.monotonic(), (at.clock.tokens, at.seconds)
    label = {"total": run.total, "unit": "tokens", "done": at.clock.tokens}
    with (
        Curve(run.curve) as curve,
        run.log.progress("training", **label) as bar,
        tracking(run) as told,
        watching(run.stall_seconds) as alive,
        run.mesh.faults(lambda: at.clock.step + 1),
    ):
        while at.clock.tokens < run.total:
            alive()
            began = time.perf_counter()
            micros = [on(run.mesh.own(micro), device) for micro in run.feed.next(at.clock)]
            waited = time.perf_counter() - began
            run.before_step(at.clock)
            rate = run.rate * run.schedule.value(at.clock)
            at.numbers = gradients(run, at.clock, micros, at.audit)
            act = leap(run, at)
            if act == "back":
                at = go_back(run, at, curve)
                bar.back(at.clock.tokens)
                continue
            update(run, at.clock, rate, act)
            step = tally(run, micros)
            tokens = int(step["read"] if run.reads else step["trained"])
            at.clock = replace(at.clock, step=at.clock.step + 1, tokens=at.clock.tokens + tokens)
            at.audit.after_step(last=at.clock.tokens >= run.total)
            took = time.perf_counter() - began
            row = {"step": at.clock.step, "tokens": at.clock.tokens, "rate": rate, **at.numbers, **bits_per_byte(step, at.loss)}
            row |= {**speed(run, tokens, int(step["read"]), took), "memory": memory(), "data_seconds": round(waited, 4)}
            row |= {"leapt": act} if act else {}
            row |= measured(run, at)
            at.seconds += time.perf_counter() - began
            left = (run.total - at.clock.tokens) * (at.seconds - first[1]) / max(1, at.clock.tokens - first[0])
            row |= {"eta_seconds": round(max(0.0, left), 1), "seconds": round(at.seconds, 3)}
            curve.append(row)
            told(row)
            bar.advance(tokens, note(row))
            keep_weights(run, at.clock)
            stopping, due = asked(run, at.clock, saved)
            if stopping or at.clock.tokens >= run.total or due:
                save(run, at, curve)
                saved = time.monotonic()
            tell_written(run, at, wait=stopping or at.clock.tokens >= run.total)
            if stopping and at.clock.tokens < run.total:
                done = f"{at.clock.tokens:,} of {run.total:,} tokens"
                raise Interrupted(f"stopped after step {at.clock.step} ({done}); the state is saved, the same command goes on")
    return Outcome(at.clock, at.loss, at.seconds, at.audit.verdict, at.resumed, at.numbers, run.guard.count)


def update(run: Training, clock: Clock, rate: float, act: str) -> None:
    """The optimizer's step, unless the guard leaves it out, and what methods of the mesh do after one."""
    if act == "skip":
        run.optimizer.spend()
    else:
        run.optimizer.step(rate, run.steps_before + clock.step + 1)
    run.mesh.after(run.optimizer, clock.step + 1, last=clock.tokens + run.batch >= run.total)


def asked(run: Training, clock: Clock, saved: float) -> tuple[bool, bool]:
    """Whether any rank wants to stop, and whether a checkpoint is due, once copies are the same. A rank that is slow is named."""
    stopping, due = run.mesh.any([run.stopping(), is_time(run, clock, saved)], lap=True)
    if slow := run.mesh.straggler(clock.step):
        run.log.say(slow)
    settled = run.mesh.settled(clock.step)
    return stopping and settled, due and settled


def gradients(run: Training, clock: Clock, micros: list[Batch], audit: Audit) -> dict[str, float]:
    """Leave the gradients of the whole step with the optimizer: sums over all micro-batches of all ranks, each over its denominator."""
    rng = run.rng.child("step", run.steps_before + clock.step)
    whole = [on(one, where(run.net)) for one in run.feed.whole]
    with run.mesh.divided():
        value = shares(run.loss, {"net": run.net, **run.roles}, micros, rng, run.mesh, whole)
        with run.watch():
            numbers = run.mesh.passes(run.backward, run.net, micros, value, rng.child("backward"))
    numbers = run.mesh.sums(numbers)
    grads = run.optimizer.collect()
    audit.gradients(grads)
    if hasattr(run.backward, "transform"):
        numbers = {**numbers, **run.backward.transform(grads, run.optimizer.norm() if run.mesh.divides else None)}
    if "grad_norm" not in numbers:
        numbers = {**numbers, "grad_norm": run.optimizer.norm()}
    bad = next((name for name, number in numbers.items() if not math.isfinite(number)), None)
    if bad:
        bad = "gradient" if bad == "grad_norm" else bad
        names = run.feed.names()
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        raise CheckFailed(f"{bad} is not finite at step {clock.step + 1}; lower the rate or look at the documents of this step: {shown}")
    return numbers


def leap(run: Training, at: Standing) -> str:
    """What is to be done about a loss that leaps, "" where it does not; its batch is then written down. CheckFailed where that ends it."""
    limit = run.guard.leaps(at.loss)
    if limit is None:
        return ""
    act, step, names = run.guard.act, at.clock.step + 1, run.feed.names()
    run.guard.dump({"step": step, **at.numbers, "limit": limit, "act": act, "documents": names})
    said = f"the loss leaps to {at.loss:.3f} at step {step}, above {limit:.3f}; the ids of its {len(names)} documents are in"
    if act == "stop":
        raise CheckFailed(f"{said} {run.guard.path}; look at them, lower the rate, or say `spikes: skip` or back")
    if act == "skip" and run.guard.streak == run.guard.least:
        why = f"{run.guard.streak} updates in a row would be left out, and the loss does not come back"
        raise CheckFailed(f"{said} {run.guard.path}; {why}: lower the rate, or say `spikes: dump`")
    run.log.say(f"{said} {run.guard.path.name}{'; the update is left out' if act == 'skip' else ''}")
    return act


def measured(run: Training, at: Standing) -> dict[str, float]:
    """Figures of held-out text, where they are due; the clock shows them from now on."""
    due = at.clock.tokens >= run.total or bool(run.evaluate_every and at.clock.step % run.evaluate_every == 0)
    if run.evaluate is None or not due:
        return {}
    found = run.evaluate()
    held = {name: value for name, value in found.items() if name.startswith("heldout")}
    at.clock = replace(at.clock, seen={**at.clock.seen, **held})
    return found


def counted(run: Training) -> None:
    """What units of the model have counted of this rank's tokens becomes the count of all ranks, before it is saved or used."""
    for unit in run.net.modules() if run.mesh.many else ():
        for name in getattr(unit, "counts", ()):
            run.mesh.add({name: unit.get_buffer(name)})


def is_time(run: Training, clock: Clock, saved: float) -> bool:
    """Whether a checkpoint is due: by seconds, which never change the numbers, or by steps."""
    by_steps = run.save_steps and clock.step % run.save_steps == 0
    return bool(by_steps) or (time.monotonic() - saved >= run.save_every and not run.checkpoints.busy)


def keep_weights(run: Training, clock: Clock) -> None:
    """Begin a copy of the weights alone, where one is due and a run that was killed has not written it already."""
    if run.weights_every and clock.step % run.weights_every == 0 and not run.weights.has(clock.step):
        parts = {name.removeprefix("weight|"): t for name, t in run.optimizer.tensors().items() if name.startswith("weight|")}
        run.weights.begin(clock.step, parts, {"step": clock.step, "tokens": clock.tokens})


def tell_written(run: Training, at: Standing, wait: bool) -> None:
    """Note the checkpoints that have become complete; what their writing met is raised here."""
    for kept in filter(None, (run.weights, run.checkpoints)):
        if wait:
            kept.wait()
        for step in kept.written():
            run.log.event("checkpoint" if kept is run.checkpoints else "weights", step=step)
