"""What a forecast is told of a training run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bloomery.nn.config import Config
from bloomery.num.step_cost import Layout

ALONE = Layout()


@dataclass(frozen=True)
class Load:
    """What is rehearsed or tried, and what a run does beside its steps; it travels to other processes, so `make` is a function of a
    module with its arguments."""

    stage: str
    cfg: Config  # of the model
    make: Callable[[], Any]  # the model, the roles and the optimizer of the run
    loss: Any
    backward: Any
    saved: Any
    rows: int  # of a step
    micro: int  # rows of a micro-batch
    context: int
    steps: int
    scored: int  # tokens that are scored without gradients, in all
    text: int  # bytes of tokens or conversations that are held
    reread: int  # bytes of models that are read back while the trained one is held
    compiled: bool
    precision: str
    threads: int
    save_seconds: float
    save_steps: int
    device: str = "cpu"
    layout: Layout = ALONE  # how processes share the step
    sequence: bool = False  # along tensor norms and the residual stream have parts of the tokens
    tables: bool = False  # tensor cuts embedding and head too
    across: str = "ulysses"  # what lays out context
    handed: int = 2  # how often the fullest rank of a pipeline sends for a micro-batch: on to the next stage, or back
    averaged: float = 1.0  # of the sum of gradients over copies, what they send of it in the mean of many steps
    aside: str = ""  # what of the layout no formula knows
    shelved: bool = False  # the optimizer's masters and states lie on a disk
    resident: int = 0  # blocks whose weights are in memory at a time, where those of all lie on a disk; 0: they lie in memory

    @property
    def micros(self) -> int:
        """Micro-batches of a step."""
        return self.rows // self.micro
