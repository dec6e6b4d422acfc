"""Some steps of a run on made-up text, in a process of their own: the seconds and bytes that a rehearsal can only add up."""

from __future__ import annotations

import multiprocessing
import os
import signal
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from threading import Thread
from typing import Any

from bloomery.core.lineage import code
from bloomery.core.speeds import Speeds
from bloomery.stages._load import Load

LEAST, MOST, ENOUGH = 4, 12, 3.0  # steps after the first, and the seconds after which no more of them are begun
UNEVEN = 16  # of them where products have new shapes from step to step, for each of which a kernel is made
PATIENCE = 600.0  # seconds for the whole trial; whatever takes longer is left to the rehearsal
ENDING = 5.0  # seconds in which a process that has closed its end of the pipe is gone
SMALL = {"vocab": 64, "width": 16, "layers": 1, "heads": 1, "kv_heads": 1, "ffn": 16, "context": 16}
SMALL_ROWS = 4
MICROS = 2  # of a step, at most


class Untried(Exception):
    """Why a trial has come to nothing, in a few words; a forecast then goes by the rehearsal alone, and says so."""


@dataclass(frozen=True)
class Tried:
    """Medians over the later half of the steps, in seconds, and the bytes by which the process grew beyond a tiny run of the same kind."""

    micro: float
    rest: float
    grown: float
    passes: float  # micro-batches that were done until then
    compiling: float  # seconds; 0 for an eager run


def known(load: Load, step: Any, speeds: Speeds, may: bool) -> Tried | None:
    """The trial of a run whose step was rehearsed as `step`: as remembered, made now where it `may` be, else None. Raises Untried."""
    name = named(load, step)
    if f"{name} micro" not in speeds.known and may:
        for key, value in asdict(tried(load, bool(step.uneven))).items():
            speeds.of(f"{name} {key}", lambda value=value: value)
    kept = {one.name: speeds.known.get(f"{name} {one.name}") for one in fields(Tried)}
    return None if None in kept.values() else Tried(**kept)


def named(load: Load, step: Any) -> str:
    """All that a trial measures hangs on: the operations of passes and update with their shapes, how they are driven, and by which code."""
    done = [sorted(map(repr, calls.items())) for calls in (step.micro, step.rest)]
    how = (load.loss, load.backward, load.saved, load.micros, load.micro, load.context, load.compiled, load.threads, load.precision)
    driver = code([__name__], (load.loss, load.backward, load.saved))
    return "trial " + sha256(repr((done, how, bool(step.uneven), driver)).encode()).hexdigest()[:32]


def tried(load: Load, uneven: bool) -> Tried:
    """Make the trial; `uneven`: whether shapes of products depend on where a router sends tokens. Raises Untried where it fails, is killed
    or takes too long."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, load, uneven), daemon=True)
    try:
        process.start()
        theirs.close()
        told = ours.recv() if ours.poll(PATIENCE) else f"it was not done after {PATIENCE:.0f} s"
    except EOFError:
        process.join(ENDING)
        told = ended_by(process.exitcode)
    except Exception as wrong:  # something of the run cannot travel, or the system starts no process
        told = f"its process cannot be started ({said(wrong)})"
    finally:
        if process.pid is not None:
            process.kill()
            process.join()
    if isinstance(told, str):
        raise Untried(told)
    return Tried(**told)


def ended_by(code: int | None) -> str:
    """What became of a process that has told nothing."""
    how = f"by {signal.Signals(-code).name}" if code and code < 0 else f"with code {code}"
    return f"its process ended {how}"


def said(wrong: BaseException) -> str:
    """An error on one line."""
    first = next(iter(str(wrong).strip().splitlines()), "")
    return f"{type(wrong).__name__}: {first[:200]}" if first else type(wrong).__name__


def _work(pipe: Any, load: Load, uneven: bool) -> None:
    """The other process, which ends with the one that started it."""
    Thread(target=_ended_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    import torch

    from bloomery.train import allocator

    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1), os.dup2(quiet, 2)
    allocator.keep_memory()
    torch.set_num_threads(load.threads)
    try:
        pipe.send(asdict(measured(load, uneven)))
    except Exception as wrong:
        pipe.send(said(wrong))


def _ended_with(parent: Any) -> None:
    """A planner that is killed asks nothing more."""
    parent.join()
    os._exit(1)


def measured(load: Load, uneven: bool) -> Tried:
    """Run the steps in this process."""
    from bloomery.stages._smallest import highest
    from bloomery.train.audit import Audit

    before = _warm(load)
    net, roles, mover = load.make()
    watched = Audit(net, mover)
    if getattr(load.backward, "streams", False):
        mover.stream()
    compiling = _compile(net, load, roles) if load.compiled else 0.0
    step = _stepper(load, net, roles, mover)
    net.train()
    step()  # first uses
    times, least = [], UNEVEN if uneven else LEAST
    while len(times) < least or (sum(map(sum, times)) < ENOUGH and len(times) < MOST):
        times.append(step())
    del watched
    micro, rest = (statistics.median(one) for one in zip(*times[len(times) // 2 :], strict=True))
    passes = (1 + len(times)) * min(MICROS, load.micros)
    return Tried(micro, rest, highest() - before, passes, compiling)


def _stepper(load: Load, net: Any, roles: dict[str, Any], mover: Any) -> Callable[[], tuple[float, float]]:
    """A function that does a step on new text, and gives the seconds of a micro-batch and of the rest; with one thread processor time
    counts, which other processes do not lengthen."""
    import torch

    from bloomery.seams import Rng
    from bloomery.train.device import on, where
    from bloomery.train.rehearsal import ended
    from bloomery.train.saved import saving
    from bloomery.train.shares import shares

    clock = time.process_time if load.threads == 1 else time.perf_counter
    draw, many = torch.Generator().manual_seed(0), min(MICROS, load.micros)
    watch = nullcontext() if load.saved is None else saving(net, load.saved, roles.values())  # as in a run: counting takes time

    def step() -> tuple[float, float]:
        micros = [on(drawn(load.micro, load.context, net.cfg.vocab, draw), where(net)) for _ in range(many)]
        began = clock()
        with watch:
            value = shares(load.loss, {"net": net, **roles}, micros, Rng((0, "trial")))
            load.backward.backward(net, micros, value, Rng((0, "trial")))
        passed = clock()
        ended(mover, load.backward)
        return (passed - began) / many, clock() - passed

    return step


def drawn(rows: int, context: int, vocab: int, draw: Any) -> Any:
    """A micro-batch of random tokens whose rows are one document each; a router sends them to different experts."""
    import torch

    from bloomery.train.rehearsal import made_up

    batch = made_up(rows, context)
    ids = torch.randint(vocab, (rows, context + 1), generator=draw)
    batch.inputs.copy_(ids[:, :-1]), batch.targets.copy_(ids[:, 1:]), batch.weights.fill_(1.0)
    batch.positions.copy_(torch.arange(context).expand(rows, context))
    return batch


def _compile(net: Any, load: Load, roles: dict[str, Any]) -> float:
    from types import SimpleNamespace

    from bloomery.core.log import Log
    from bloomery.seams import Rng
    from bloomery.train.compiled import compile_blocks

    feed: Any = SimpleNamespace(context=load.context, micro=load.micro, rng=Rng((0, "trial")))
    return compile_blocks(net, feed, load.loss, Log(quiet=True), roles)


def _warm(load: Load) -> int:
    """Bytes that this process holds after a step of a tiny model: what any first step brings along is no part of this model's."""
    from bloomery.methods.backward.autograd import Autograd
    from bloomery.methods.loss.cross_entropy import CrossEntropy
    from bloomery.methods.optim.adamw import AdamW
    from bloomery.nn.config import Config
    from bloomery.nn.model import Transformer
    from bloomery.seams import Rng
    from bloomery.train import precision
    from bloomery.train.metrics import memory
    from bloomery.train.optimizer import Optimizer

    net = Transformer(Config(**SMALL))
    mover = Optimizer(net, AdamW(), Rng((0, "trial")), 0.0, precision.dtype(load.precision))
    own = {"loss": CrossEntropy(), "backward": Autograd(), "saved": None, "rows": SMALL_ROWS, "micro": SMALL_ROWS}
    _stepper(replace(load, **own, context=SMALL["context"]), net, {}, mover)()
    return memory()
