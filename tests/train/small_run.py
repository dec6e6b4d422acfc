"""A run of a few seconds, for the tests of the loop and for the processes that they start and kill."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from bloomery.core.errors import Interrupted
from bloomery.core.log import Log
from bloomery.core.signals import Signals
from bloomery.data.shards import Shards, write_shards
from bloomery.methods.backward.autograd import Autograd
from bloomery.methods.batching.packed import Packed
from bloomery.methods.loss.cross_entropy import CrossEntropy
from bloomery.methods.optim.adamw import AdamW
from bloomery.methods.schedule.wsd import Wsd
from bloomery.methods.view.causal import Causal
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Rng, Vocab
from bloomery.train.batches import Feed
from bloomery.train.checkpoint import Checkpoints
from bloomery.train.loop import Training, train
from bloomery.train.metrics import MEASURED
from bloomery.train.optimizer import Optimizer

CFG, VOCAB = Config(50, 16, 2, 2, 1, 24, 16), Vocab(50, 0, 1, 2)


def shards(folder: Path) -> Shards:
    draw = np.random.default_rng(0)
    documents = [({"id": f"d{i}", "bytes": 9}, np.r_[1, draw.integers(3, 50, n), 2]) for i, n in enumerate(draw.integers(3, 40, 30))]
    write_shards(folder, documents, 50)
    return Shards(folder)


def training(folder: Path, dtype: torch.dtype = torch.float32, **changes) -> Training:
    """A run of 20 steps of 4 rows; `folder` keeps what survives."""
    data = shards(folder / "data") if not (folder / "data").exists() else Shards(folder / "data")
    net, rng = Transformer(CFG, Rng((0, "init"))), Rng((0, "t"))
    feed = Feed(data, Packed(16), Causal(), 16, 2, rng.child("feed"), VOCAB)
    run = Training(
        net, feed, CrossEntropy(16), Autograd(), Optimizer(net, AdamW(), rng, 0.1, dtype), Wsd(), 1e-2, 20 * 64, 64, rng,
        Checkpoints(folder / "checkpoints"), folder / "curve.jsonl", Log(quiet=True),
        evaluate=lambda: {"heldout_bpb": float(net.embed.weight.detach().float().sum())}, evaluate_every=6,
    )  # fmt: skip
    return replace(run, **changes)


def killed(folder: str) -> None:
    """The run in a process that is killed or asked to stop: exit code 75 where it has saved and stopped."""
    signals = Signals()
    try:
        with signals.listening(), signals.deferred():
            train(training(Path(folder), save_steps=1, stopping=lambda: signals.stopping))
    except Interrupted as said:
        print(said)
        sys.exit(75)


def curve(run: Training) -> list[dict]:
    rows = [json.loads(line) for line in run.curve.read_text().splitlines()]
    return [{key: row[key] for key in row if key not in MEASURED} for row in rows]
