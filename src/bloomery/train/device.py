"""The device that a model is trained on: the first GPU that torch can use, or the processor. Rows of text are made on the processor.

Free of torch until a GPU is seen, so that a plan can ask.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.core.errors import BadInput

if TYPE_CHECKING:
    import torch
    from torch import nn

    from bloomery.seams import Batch

DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # where one of these is, torch is asked for a GPU
SIDE, TIMES = 4096, 8  # of the matrices whose product is timed, and how often


def resolved(wish: str) -> str:
    """ "auto" becomes "cuda" where torch has such a device (AMD's are called so too), else "cpu".

    BadInput where the one that is named is missing.
    """
    found = wish != "cpu" and _has_cuda()
    if wish == "cuda" and not found:
        raise BadInput("device: cuda needs a GPU and a torch that can use it, and here is none; say auto or cpu")
    return "cuda" if found else "cpu"


def _has_cuda() -> bool:
    if not any(Path(driver).exists() for driver in DRIVERS):
        return False
    import torch

    return torch.cuda.is_available()


def mode(wish: str) -> dict[str, str]:
    """What of the device belongs to the numeric mode of a run; on a processor nothing."""
    return {"device": name} if (name := resolved(wish)) != "cpu" else {}


def multiplies_bf16() -> bool:
    """Whether the GPU multiplies bfloat16 in hardware."""
    import torch

    return torch.cuda.is_bf16_supported(including_emulation=False)


def where(net: nn.Module) -> torch.device:
    """The device of a model."""
    return next(net.parameters()).device


def on(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors there; the same batch where they are."""
    if batch.inputs.device == device:
        return batch
    return replace(batch, **{name: t.to(device, non_blocking=True) for name, t in vars(batch).items() if hasattr(t, "to")})


def peak_flops(device: str, precision: str) -> float:
    """Floating-point operations a second at products of 4096 x 4096 matrices on a GPU, the best of a few."""
    import torch

    from bloomery.train import precision as formats

    x = torch.ones(SIDE, SIDE, dtype=formats.dtype(precision), device=device)
    took: list[Any] = []
    for _ in range(TIMES):
        torch.cuda.synchronize()
        began = time.perf_counter()
        x @ x
        torch.cuda.synchronize()
        took.append(time.perf_counter() - began)
    return 2 * SIDE**3 / min(took)
