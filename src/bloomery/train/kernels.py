"""What a product of a shape that was not there before costs in bfloat16: oneDNN compiles a kernel for each, and keeps the last ones.

A mixture of experts makes such products all along, because how many tokens an expert gets changes from step to step.
"""

from __future__ import annotations

import os
import time

import torch

from bloomery.train.metrics import memory

KEPT = 1024  # kernels that oneDNN keeps unless ONEDNN_PRIMITIVE_CACHE_CAPACITY says otherwise
TRIED, SIDE = 128, 128


def kept() -> int:
    """Kernels that stay in memory at most."""
    wish = os.environ.get("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "")
    return int(wish) if wish.isdigit() else KEPT


def cost() -> tuple[float, float]:
    """(bytes, seconds) of one more shape, from products of rows that no other code asks for; in a process that has little memory to
    use again, or the bytes would be too few."""
    weight = torch.full((SIDE, SIDE), 0.5, dtype=torch.bfloat16)
    x = torch.full((3 * TRIED + 1001, SIDE), 0.5, dtype=torch.bfloat16)
    x[:1001] @ weight  # what any first product brings along
    before, began = memory(), time.thread_time()
    for i in range(1, TRIED + 1):
        x[: 1001 + 3 * i] @ weight
    first, after = time.thread_time() - began, memory()
    began = time.thread_time()
    for i in range(1, TRIED + 1):
        x[: 1001 + 3 * i] @ weight
    return max(0, after - before) / TRIED, max(0.0, first - (time.thread_time() - began)) / TRIED
