"""What one training run is made of, and what a finished one knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from bloomery.core.log import Log
from bloomery.seams import Backward, Clock, Loss, Rng, Schedule
from bloomery.train.batches import Feed
from bloomery.train.checkpoint import Checkpoints
from bloomery.train.mesh import ALONE, Mesh
from bloomery.train.optimizer import Optimizer
from bloomery.train.sharded import ShardedOptimizer
from bloomery.train.spikes import Guard


@dataclass(frozen=True)
class Earlier:
    """The trainer state at the end of another run of the same model."""

    tensors: Mapping[str, Tensor]
    layout: list
    steps: int
    batching: Any  # the place in the text, which means something in the order `by` alone: of other text the beginning is read
    by: str


@dataclass
class Training:
    """Everything that one run is made of; nothing else influences its numbers."""

    net: nn.Module
    feed: Feed
    loss: Loss
    backward: Backward
    optimizer: Optimizer | ShardedOptimizer
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
    guard: Guard = field(default_factory=Guard)  # what becomes of a loss that leaps
    stall_seconds: float = 0.0  # the process ends where no step does for so long; 0 = never
    weights: Checkpoints | None = None  # where the weights alone are kept
    weights_every: int = 0  # steps between two of these copies; 0 = none
    sizes: Any = None  # bytes of each token (V,), where the loss is the nats of the targets: bits per byte are then known
    flops_per_token: float = 0.0  # of a training step; 0 = not known
    peak_flops: float = 0.0  # of matrix products of all ranks, measured here in this precision; 0 = not known
    report_to: Sequence[str] = ()  # trackers that get the figures of every step
    settings: Mapping[str, Any] = field(default_factory=dict)  # what the trackers are told of the run
    mesh: Mesh = ALONE  # the ranks that run it together

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
    spikes: int = 0  # losses that leapt
