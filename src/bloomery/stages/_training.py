"""What the stages that train have in common: guards, checkpoints, figures and trackers of a run, and the files that these leave."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from bloomery.core import catalog
from bloomery.core.errors import BadInput
from bloomery.core.machine import threads

if TYPE_CHECKING:
    from bloomery.core.job import Job

SPIKES, WEIGHTS, CURVE = "spikes.jsonl", "weights", "curve.jsonl"


def sound(stage: Any) -> None:
    """ValueError, one clause, for knobs that make no run."""
    for name in ("micro", "evaluate_every", "checkpoint_steps", "weights_every"):
        if getattr(stage, name) < 0:
            raise ValueError(f"{name} must not be negative, got {getattr(stage, name)}")
    if stage.checkpoint_seconds <= 0:
        raise ValueError(f"checkpoint_seconds must be above 0, got {stage.checkpoint_seconds}")
    if stage.checkpoints_kept < 1:
        raise ValueError(f"checkpoints_kept must be at least 1, got {stage.checkpoints_kept}")
    if stage.spike_window < 8 or stage.spike_sigmas <= 0:
        raise ValueError(f"spike_window must be at least 8 and spike_sigmas above 0, got {stage.spike_window} and {stage.spike_sigmas}")
    if stage.spikes == "back" and not stage.checkpoint_steps:
        raise ValueError("spikes: back goes to the last checkpoint that a count of steps asked for; say `checkpoint_steps`, such as 200")
    if stage.stall_seconds < 0:
        raise ValueError(f"stall_seconds must not be negative, got {stage.stall_seconds}")
    if len(set(stage.report_to)) < len(stage.report_to):
        raise ValueError("report_to names a tracker twice")


def unread(stage: Any) -> str:
    """What is to be said of a second optimizer that a recipe names and that has nothing to move; "" where there is none."""
    usual = catalog.find("optim", "adamw", "rest").knobs
    name, knobs = next(iter(catalog.spec(stage.rest).items()))
    if stage.optimizer.scope == "matrix" or (name == "adamw" and all(usual[knob].default == value for knob, value in knobs.items())):
        return ""
    return f"rest: {name} has nothing to move, as {next(iter(catalog.spec(stage.optimizer)))} moves every parameter"


def mode(stage: Any, flops: float) -> dict[str, Any]:
    """What decides the last digits of a run of so many FLOPs; "device" is there where it is not the processor."""
    from bloomery.train import device
    from bloomery.train.compiled import worthwhile
    from bloomery.train.precision import resolved

    found = device.mode(stage.device)
    precision = resolved(stage.precision, device_of(found))
    return {"precision": precision, "compile": worthwhile(compiling(stage), flops), "threads": threads(), **found}


def device_of(mode: dict[str, Any]) -> str:
    """Where a run of that mode trains."""
    return mode.get("device", "cpu")


def eager(stage: Any) -> str:
    """Why blocks cannot be compiled, where they cannot."""
    if getattr(stage, "saved", None) is not None:
        return "what is kept of activations is decided site by site, which compiled blocks do not have"
    if getattr(stage, "modules", ()):
        return "modules of a recipe may change from step to step"
    if catalog.attribute("loss", stage.loss, "opens"):
        return "the loss looks inside the model"
    if catalog.attribute("backward", stage.backward, "opens"):
        return "the backward pass runs the blocks in parts"
    return "rows change their length from step to step" if catalog.attribute("batching", stage.batching, "uneven") else ""


def compiling(stage: Any) -> bool | str:
    """The knob `compile` of a stage, "off" for what cannot be compiled; BadInput where that is asked for."""
    if not (reason := eager(stage)):
        return stage.compile
    if stage.compile in (True, "on"):
        raise BadInput(f"compile: {reason}; say `compile: auto` or off")
    return "off"


def kept(stage: Any, job: Job, mode: dict[str, Any], flops: float, mesh: Any) -> dict[str, Any]:
    """Fields of `loop.Training` that both stages fill alike; `flops` are those of a token."""
    from bloomery.train.checkpoint import Checkpoints
    from bloomery.train.spikes import Guard

    every, group = stage.checkpoint_steps, mesh.files if mesh.many else None
    return {
        "mesh": mesh,
        "checkpoints": Checkpoints(job.shared / "checkpoints", stage.checkpoints_kept, every if stage.spikes == "back" else 0, group),
        "curve": job.work / CURVE,
        "log": job.log,
        "save_every": stage.checkpoint_seconds,
        "save_steps": every,
        "stopping": lambda: job.stopping,
        "mode": mode,
        "guard": Guard(stage.spikes, stage.spike_window, stage.spike_sigmas, job.work / SPIKES),
        "stall_seconds": stage.stall_seconds,
        "weights": Checkpoints(job.shared / WEIGHTS, keep=0, group=group) if stage.weights_every else None,
        "weights_every": stage.weights_every,
        "flops_per_token": flops,
        "peak_flops": peak(job, mode) * mesh.size,
        "report_to": stage.report_to if mesh.first else (),
        "settings": settings(stage),
    }


def flops(net: Any, context: int) -> float:
    """Training FLOPs of a token: a frozen matrix has no gradient of its own, which is a third of its work; adapters come on top."""
    head = net.head_weight
    frozen = added = 0
    for name, p in net.named_parameters():
        if p.dim() > 1 and not p.requires_grad and (name.startswith("blocks.") or p is head):
            frozen += p.numel()
        if p.requires_grad and (".a." in name or ".b." in name):
            added += p.numel()
    return net.cfg.flops_per_token(context) - 2.0 * min(frozen, net.cfg.matmul_parameters()) + 6.0 * added


def sizes(model: Any, loss: Any) -> Any:
    """Bytes of each token (V,), where the loss is the nats of the answers; None where bits per byte would mean nothing."""
    import torch

    from bloomery.methods.loss.cross_entropy import CrossEntropy
    from bloomery.train.heldout import token_bytes

    words = model.folder / "tokenizer.json"
    return torch.from_numpy(token_bytes(words, model.net.cfg.vocab)) if type(loss) is CrossEntropy and words.is_file() else None


def answers(model: Any, sizes: Any, rows: list, compiled: bool, mesh: Any) -> Callable[[], dict[str, float]]:
    """Measures held-out answers: nats of a token, and bits of a byte where sizes of tokens are known."""
    from bloomery.train import heldout

    if sizes is None:
        return lambda: {"heldout_nats": heldout.nats_per_token(model.net, rows, compiled, mesh)}
    return lambda: heldout.figures(model.net, rows, sizes.numpy(), {}, compiled, mesh)


def peak(job: Job, mode: dict[str, Any]) -> float:
    """The speed at matrix products that was measured on this machine; 0 outside a store, which is where that of a processor is kept."""
    from bloomery.core.machine import remembered
    from bloomery.train import device

    if "device" in mode:
        return device.peak_flops(mode["device"], mode["precision"])
    return remembered(job.store.root / "machine.json").matmul_flops.get(mode["precision"], 0.0) if job.store is not None else 0.0


def settings(stage: Any) -> dict[str, Any]:
    """What trackers are told of a run: its numbers and the names of its methods, and no text, path or list, which may hold secrets."""
    told = {}
    for one in fields(stage):
        value = getattr(stage, one.name)
        if isinstance(value, int | float):
            told[one.name] = value
        elif type(value).__module__.startswith("bloomery.methods."):
            told[one.name] = type(value).__name__
    return told


def leave(job: Job) -> None:
    """The curve, the batches that leapt, copies of the weights and event files go with the artifact."""
    from bloomery.train.trackers import copy_events

    shutil.copy(job.work / CURVE, job.out / CURVE)
    if (job.work / SPIKES).exists():
        shutil.copy(job.work / SPIKES, job.out / SPIKES)
    if (job.work / WEIGHTS).is_dir():
        shutil.copytree(job.work / WEIGHTS, job.out / WEIGHTS)
    copy_events(job.work, job.out)
