"""Figures of every step for tensorboard, wandb and mlflow, through their own packages, which are imported only where they are asked for.

They are told numbers alone: figures of steps, and the settings that the stage chose to tell; no recipe, path, text or environment. A
tracker that fails, when it begins or later, is said once, by its name and the kind of its error, and left out: no figure is worth a run.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.train.run import Training

EVENTS = "tensorboard"  # folder of event files beside the curve
PROJECT = "bloomery"
Row = Callable[[int, Mapping[str, float]], None]


def demand(names: Sequence[str]) -> None:
    """BadInput that names the first package that is missing."""
    for name in names:
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            raise BadInput(f"report_to: the package {name} is missing: pip install 'bloomery[track]', or {name} alone")


@contextmanager
def tracking(run: Training) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Gives what takes the row of each step."""
    if not run.report_to:
        yield lambda row: None
        return
    demand(run.report_to)
    with ExitStack() as stack:
        begin = len(run.curve.read_text(encoding="utf-8").splitlines())
        sinks = {}
        for name in run.report_to:
            try:
                sinks[name] = stack.enter_context(KINDS[name](run, begin))
            except Exception as wrong:  # nobody is logged in, a server that does not answer
                run.log.say(f"report_to: {name} failed ({type(wrong).__name__}) and is left out")

        def tell(row: Mapping[str, Any]) -> None:
            numbers = {name: value for name, value in row.items() if isinstance(value, int | float) and name != "step"}
            for name, sink in list(sinks.items()):
                try:
                    sink(row["step"], numbers)
                except Exception as wrong:
                    del sinks[name]
                    run.log.say(f"report_to: {name} failed ({type(wrong).__name__}) and is left out from step {row['step']} on")

        yield tell


@contextmanager
def _tensorboard(run: Training, begin: int) -> Iterator[Row]:
    """Event files in the artifact; those of steps that are repeated are purged by the reader."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(run.curve.parent / EVENTS), purge_step=begin + 1 if begin else None)

    def sink(step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            writer.add_scalar(name, value, step)

    try:
        yield sink
    finally:
        with contextlib.suppress(OSError):
            writer.close()


@contextmanager
def _wandb(run: Training, begin: int) -> Iterator[Row]:
    """One run, which a resumed process goes on with; WANDB_MODE, WANDB_API_KEY and the like are the package's own business."""
    import wandb

    name = run.curve.parent.name
    quiet = wandb.Settings(console="off", save_code=False, disable_git=True, x_disable_meta=True, silent=True)
    opened = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT), id=name, name=name, dir=str(run.curve.parent),
        config=dict(run.settings), resume="allow", settings=quiet,
    )  # fmt: skip
    failed = True
    try:
        yield lambda step, numbers: opened.log(dict(numbers), step=step)
        failed = False
    finally:
        with contextlib.suppress(Exception):
            opened.finish(exit_code=int(failed))


@contextmanager
def _mlflow(run: Training, begin: int) -> Iterator[Row]:
    """One run, whose number is kept beside the curve; MLFLOW_TRACKING_URI says where it is told, else a file beside the curve."""
    import mlflow

    if not os.environ.get("MLFLOW_TRACKING_URI"):
        mlflow.set_tracking_uri((run.curve.parent / "mlruns").resolve().as_uri())
    known = run.curve.parent / "mlflow.json"
    number = json.loads(known.read_text(encoding="utf-8"))["run"] if known.exists() else None
    opened = mlflow.start_run(run_id=number, run_name=run.curve.parent.name)
    if number is None:
        known.write_text(json.dumps({"run": opened.info.run_id}), encoding="utf-8")
        mlflow.log_params(dict(run.settings))
    status = "FAILED"
    try:
        yield lambda step, numbers: mlflow.log_metrics(dict(numbers), step=step, synchronous=False)
        status = "FINISHED"
    finally:
        with contextlib.suppress(Exception):
            mlflow.end_run(status)


KINDS = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}


def copy_events(work: Path, out: Path) -> None:
    """Event files of tensorboard go with the artifact."""
    if (work / EVENTS).is_dir():
        shutil.copytree(work / EVENTS, out / EVENTS)
