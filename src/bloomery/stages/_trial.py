"""Some steps of a run on made-up text, in a process of their own: the seconds and bytes that a rehearsal can only add up."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from typing import Any

from bloomery.core.speeds import Speeds

LEAST, MOST, ENOUGH = 4, 12, 3.0  # steps after the first, and the seconds after which no more of them are begun
UNEVEN = 16  # of them where products have new shapes from step to step, for each of which a kernel is made
PATIENCE = 600.0  # seconds for the whole trial; whatever takes longer is left to the rehearsal
SMALL = {"vocab": 64, "width": 16, "layers": 1, "heads": 1, "kv_heads": 1, "ffn": 16, "context": 16}
SMALL_ROWS = 4
MICROS = 2  # of a step, at most


@dataclass(frozen=True)
class Attempt:
    """What is tried; it travels to the other process, so `make` is a function of a module with its arguments."""

    make: Callable[[], Any]  # model, roles and optimizer of the run
    loss: Any
    backward: Any
    saved: Any
    micros: int  # micro-batches of a step
    rows: int  # of a micro-batch
    context: int
    compiled: bool
    threads: int
    precision: str
    uneven: bool  # whether shapes of products depend on where a router sends tokens


@dataclass(frozen=True)
class Tried:
    """Medians over the later half of the steps, in seconds, and the bytes by which the process grew beyond a tiny run of the same kind."""

    micro: float
    rest: float
    grown: float
    passes: float  # micro-batches that were done until then
    compiling: float  # seconds; 0 for an eager run


def known(attempt: Attempt, calls: Any, speeds: Speeds, may: bool) -> Tried | None:
    """The trial of a step that does these operations: as remembered, made now where it `may` be, else None."""
    name = "trial " + sha256(repr(sorted(map(repr, (*calls.items(), replace(attempt, make=None))))).encode()).hexdigest()[:32]
    if f"{name} micro" not in speeds.known and may and (found := tried(attempt)) is not None:
        for key, value in asdict(found).items():
            speeds.of(f"{name} {key}", lambda value=value: value)
    kept = {one.name: speeds.known.get(f"{name} {one.name}") for one in fields(Tried)}
    return None if None in kept.values() else Tried(**kept)


def tried(attempt: Attempt) -> Tried | None:
    """None where the trial fails, is killed or takes too long: a forecast then goes by the rehearsal alone."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, attempt), daemon=True)
    try:
        process.start()
        theirs.close()
        return Tried(**ours.recv()) if ours.poll(PATIENCE) else None
    except (EOFError, OSError, AttributeError, TypeError):  # the last two: something of the attempt cannot travel
        return None
    finally:
        if process.pid is not None:
            process.kill()
            process.join()


def _work(pipe: Any, attempt: Attempt) -> None:
    """The other process."""
    import os

    import torch

    from bloomery.train import allocator

    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1), os.dup2(quiet, 2)
    allocator.keep_memory()
    torch.set_num_threads(attempt.threads)
    pipe.send(asdict(measured(attempt)))


def measured(attempt: Attempt) -> Tried:
    """Run the steps in this process."""
    from bloomery.stages._smallest import highest
    from bloomery.train.audit import Audit

    before = _warm(attempt)
    net, roles, mover = attempt.make()
    watched = Audit(net, mover)
    if getattr(attempt.backward, "streams", False):
        mover.stream()
    compiling = _compile(net, attempt, roles) if attempt.compiled else 0.0
    step = _stepper(attempt, net, roles, mover)
    net.train()
    step()  # first uses
    times, least = [], UNEVEN if attempt.uneven else LEAST
    while len(times) < least or (sum(map(sum, times)) < ENOUGH and len(times) < MOST):
        times.append(step())
    del watched
    micro, rest = (statistics.median(one) for one in zip(*times[len(times) // 2 :], strict=True))
    passes = (1 + len(times)) * min(MICROS, attempt.micros)
    return Tried(micro, rest, highest() - before, passes, compiling)


def _stepper(attempt: Attempt, net: Any, roles: dict[str, Any], mover: Any) -> Callable[[], tuple[float, float]]:
    """A function that does a step on new text, and gives the seconds of a micro-batch and of the rest; with one thread processor time
    counts, which other processes do not lengthen."""
    import torch

    from bloomery.seams import Rng
    from bloomery.train.device import on, where
    from bloomery.train.rehearsal import ended
    from bloomery.train.saved import saving
    from bloomery.train.shares import shares

    clock = time.process_time if attempt.threads == 1 else time.perf_counter
    draw, many, watch = torch.Generator().manual_seed(0), min(MICROS, attempt.micros), saving(net, attempt.saved, roles.values())

    def step() -> tuple[float, float]:
        micros = [on(drawn(attempt.rows, attempt.context, net.cfg.vocab, draw), where(net)) for _ in range(many)]
        began = clock()
        with watch:
            value = shares(attempt.loss, {"net": net, **roles}, micros, Rng((0, "trial")))
            attempt.backward.backward(net, micros, value, Rng((0, "trial")))
        passed = clock()
        ended(mover, attempt.backward)
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


def _compile(net: Any, attempt: Attempt, roles: dict[str, Any]) -> float:
    from types import SimpleNamespace

    from bloomery.core.log import Log
    from bloomery.seams import Rng
    from bloomery.train.compiled import compile_blocks

    feed: Any = SimpleNamespace(context=attempt.context, micro=attempt.rows, rng=Rng((0, "trial")))
    return compile_blocks(net, feed, attempt.loss, Log(quiet=True), roles)


def _warm(attempt: Attempt) -> int:
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
    mover = Optimizer(net, AdamW(), Rng((0, "trial")), 0.0, precision.dtype(attempt.precision))
    small = replace(attempt, loss=CrossEntropy(), backward=Autograd(), saved=None, micros=1, rows=SMALL_ROWS, context=SMALL["context"])
    _stepper(small, net, {}, mover)()
    return memory()
