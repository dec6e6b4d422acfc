"""Deterministic mode: the same run gives the same bits, resumed from any step or not, on the same machine with as many threads.

On a processor that holds without it: no operation of a step depends on timing. On a GPU sums whose order is left open would differ in
the last digit; within this mode torch takes an algorithm that has one order, or raises where it has none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # cuBLAS is deterministic with a fixed workspace, and reads this when it is first used


@contextmanager
def deterministic(wish: bool) -> Iterator[None]:
    """Within, torch's deterministic algorithms, where `wish` says so; what was set before is set again."""
    if not wish:
        yield
        return
    import torch

    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filling, tuned = torch.utils.deterministic.fill_uninitialized_memory, torch.backends.cudnn.benchmark
    os.environ.setdefault(WORKSPACE, ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid that costs a pass over every result
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory, torch.backends.cudnn.benchmark = filling, tuned
