"""bloomery's own training loop with its defaults; kinds: packed, and unmasked (attention between the documents of a row, inexact)."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from turns import Job, Turns, batches, begin

from bloomery.core.log import Log
from bloomery.core.machine import has_bf16
from bloomery.data.shards import Shards, write_shards
from bloomery.methods.backward.autograd import Autograd
from bloomery.methods.batching.packed import Packed
from bloomery.methods.loss.cross_entropy import CrossEntropy
from bloomery.methods.optim.adamw import AdamW
from bloomery.methods.schedule.constant import Constant
from bloomery.methods.view.causal import Causal
from bloomery.nn.hf import from_hf
from bloomery.nn.saving import assemble
from bloomery.seams import Batch, Clock, Rng, Vocab
from bloomery.train import allocator
from bloomery.train.batches import Feed, micro_rows
from bloomery.train.checkpoint import Checkpoints
from bloomery.train.compiled import compile_blocks
from bloomery.train.loop import Training, train
from bloomery.train.optimizer import Optimizer


class Rows:
    """A feed of the whole rows that all contenders get, one document each."""

    batching, state, whole = None, None, ()

    def __init__(self, job: Job, micro: int) -> None:
        self.context, self.micro, self.rng, self.source = job.context, micro, Rng((0, "feed")), batches(job)
        order = torch.arange(job.context)[None].expand(job.rows, -1).contiguous()
        self.rest = (torch.ones(order.shape), order, torch.zeros_like(order))

    def next(self, clock: Clock) -> list[Batch]:
        inputs, targets = (torch.from_numpy(one) for one in next(self.source))
        split = zip(*(one.split(self.micro) for one in (inputs, targets, *self.rest)))
        return [Batch(*parts) for parts in split]

    def names(self) -> list[str]:
        return []


def documents(job: Job, micro: int, vocab: int, folder: Path) -> Feed:
    """The documents of mixed length as bloomery packs them."""
    with np.load(job.text) as text:
        pieces = np.split(text["ids"], np.cumsum(text["lengths"])[:-1])
    write_shards(folder, [({"id": f"d{i}", "bytes": len(ids)}, ids) for i, ids in enumerate(pieces)], vocab)
    return Feed(Shards(folder), Packed(), Causal(), job.context, micro, Rng((0, "feed")), Vocab(vocab, 0, 1, 2))


class InTurns:
    """A feed that waits for its turn, and moves each batch to the device."""

    def __init__(self, feed: Any, turns: Turns, device: str) -> None:
        self.feed, self.turns, self.device = feed, turns, device

    def __getattr__(self, name: str) -> Any:
        return getattr(self.feed, name)

    def next(self, clock: Clock) -> list[Batch]:
        self.turns.next_step()
        micros = self.feed.next(clock)
        self.turns.tokens.append(sum(int(torch.count_nonzero(micro.weights)) for micro in micros))
        if self.device == "cpu":
            return micros
        return [Batch(**{name: t.to(self.device) for name, t in vars(micro).items()}) for micro in micros]


@dataclass(frozen=True)
class Told(Autograd):
    """Notes the loss of each step."""

    losses: Callable[[], list[float]] = field(default=list)

    def backward(self, net: torch.nn.Module, micros: Sequence[Batch], value: Callable[..., Any], rng: Rng) -> dict[str, float]:
        numbers = super().backward(net, micros, value, rng)
        self.losses().append(numbers["loss"])
        return numbers


@dataclass(frozen=True)
class Unmasked(CrossEntropy):
    """Lets the documents of a row see each other."""

    def terms(self, roles: Mapping[str, torch.nn.Module], batch: Batch, seen: Mapping[str, Any], rng: Rng) -> dict[str, Any]:
        return super().terms(roles, replace(batch, documents=None), seen, rng)


def main() -> None:
    job, turns = begin()
    if job.device == "cpu":
        allocator.keep_memory()
    net = assemble(*from_hf(Path(job.folder)), torch.float32, Path(job.folder)).to(job.device).train()
    dtype = torch.bfloat16 if job.device == "cuda" or has_bf16() else torch.float32
    rng, micro = Rng((0, "train")), micro_rows(job.rows, 0, job.context)
    optimizer = Optimizer(net, AdamW(job.beta1, job.beta2, job.eps), rng, job.decay, dtype)
    loss = Unmasked() if job.kind == "unmasked" else CrossEntropy()
    with tempfile.TemporaryDirectory() as folder:
        whole = "rows_SBT1" in np.load(job.text)
        feed = InTurns(Rows(job, micro) if whole else documents(job, micro, net.cfg.vocab, Path(folder) / "text"), turns, job.device)
        if job.kind != "eager":
            began = time.perf_counter()
            compile_blocks(net, feed, loss, Log(quiet=True))
            turns.prepared = time.perf_counter() - began
        train(training(job, net, feed, loss, Told(job.clip, lambda: turns.losses), optimizer, rng, Path(folder)))


def training(job: Job, net: Any, feed: Any, loss: Any, backward: Any, optimizer: Optimizer, rng: Rng, folder: Path) -> Training:
    """A run without end, which writes no checkpoint after the first."""
    batch = job.rows * job.context
    return Training(
        net, feed, loss, backward, optimizer, Constant(), job.rate, 100_000 * batch, batch, rng, Checkpoints(folder / "checkpoints"),
        folder / "curve.jsonl", Log(quiet=True), save_every=1e9, reads=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
