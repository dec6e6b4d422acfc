"""Which number format the working weights are in. Free of torch, so that a plan can ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bloomery.core.errors import BadInput
from bloomery.core.machine import has_bf16
from bloomery.train.device import multiplies_bf16

if TYPE_CHECKING:
    import torch


def resolved(wish: str, device: str = "cpu") -> str:
    """ "auto" becomes bfloat16 where the device multiplies it in hardware, float32 elsewhere (emulation is slower than float32)."""
    if wish == "auto":
        return "bfloat16" if (has_bf16() if device == "cpu" else multiplies_bf16()) else "float32"
    if wish not in ("bfloat16", "float32", "float8"):
        raise BadInput(f"precision '{wish}' is not known; use auto, bfloat16, float32 or float8")
    if wish == "float8":
        from bloomery.train import float8

        float8.demand()
        if device == "cpu":
            raise BadInput("precision: float8 products are made on a GPU, and device is cpu; say bfloat16")
    return wish


def dtype(name: str) -> torch.dtype:
    """The torch type of the working weights; those that are multiplied in float8 are bfloat16."""
    import torch

    return {"bfloat16": torch.bfloat16, "float32": torch.float32, "float8": torch.bfloat16}[name]
