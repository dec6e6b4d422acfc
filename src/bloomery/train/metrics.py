"""The figures of a step: what the clock and the machine say beside what the loss does."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import psutil
import torch

from bloomery.seams import Batch
from bloomery.train.run import Training

MEASURED = ("tokens_per_second", "mfu", "memory", "data_seconds", "eta_seconds", "seconds")  # of a row: these differ from run to run
SHOWN = {"heldout_bpb": "bits/byte", "heldout_nats": "nats/token", "heldout_loss": ""}  # the first that is measured is shown


def counted(micro: Batch, reads: bool) -> int:
    """Tokens of a micro-batch by which a run is measured; padding never counts."""
    return int(torch.count_nonzero(micro.documents >= 0 if reads else micro.weights))


def tally(run: Training, micros: Sequence[Batch]) -> dict[str, float]:
    """What a step of all ranks was made of: tokens "read" and "trained", the "weight" of the latter, and the "bytes" of their text."""
    found = {"read": sum(counted(micro, True) for micro in micros), "trained": sum(counted(micro, False) for micro in micros)}
    if run.sizes is not None:
        found["weight"] = sum(float(micro.weights.sum()) for micro in micros)
        found["bytes"] = sum(float((run.sizes[micro.targets] * micro.weights).sum()) for micro in micros)
    return run.mesh.sums(found)


def bits_per_byte(step: Mapping[str, float], loss: float) -> dict[str, float]:
    """{"bpb"} of the step's text, where the loss is the mean of its targets' nats and the bytes of tokens are known."""
    return {"bpb": loss * step["weight"] / math.log(2) / step["bytes"]} if step.get("bytes") else {}


def speed(run: Training, tokens: int, read: int, seconds: float) -> dict[str, float]:
    """Tokens a second, and the share of the machine's measured speed at matrix products that the model's own products make up."""
    share = {}
    if run.flops_per_token and run.peak_flops:
        share["mfu"] = round(run.flops_per_token * read / seconds / run.peak_flops, 4)
    return {"tokens_per_second": round(tokens / seconds, 1), **share}


def memory() -> int:
    """Bytes that this process holds, on the accelerator where there is one."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.memory_allocated()
    handle, page = _statm()
    return page * int(os.pread(handle, 64, 0).split()[1]) if handle else psutil.Process().memory_info().rss


@cache
def _statm() -> tuple[int, int]:
    """The kernel's own count, open, and bytes of a page: five times as fast as asking psutil; (0, 0) where there is none."""
    try:
        return os.open("/proc/self/statm", os.O_RDONLY), os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0, 0


def note(row: Mapping[str, Any]) -> str:
    """What is worth reading while it trains."""
    parts = [f"loss {row['loss']:.3f}"]
    if "bpb" in row:
        parts.append(f"{row['bpb']:.3f} bits/byte")
    parts += [f"held out {row[name]:.3f} {unit}".rstrip() for name, unit in SHOWN.items() if name in row][:1]
    parts += [f"rate {row['rate']:.2g}", f"gradient {row['grad_norm']:.3g}", f"{row['tokens_per_second']:,.0f} tokens/s"]
    if "mfu" in row:
        parts.append(f"MFU {100 * row['mfu']:.1f}%")
    parts += [f"{row['memory'] / 1e9:.2f} GB", f"waited {row['data_seconds']:.3f} s for data"]
    return ", ".join(parts)
