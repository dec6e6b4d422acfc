"""What the collectives of a process send, in bytes: counted as they are called, by whatever library.

A collective is counted as what a rank has to send where nothing is sent twice, which is what papers count: of n ranks (n - 1) / n of the
whole for a gather or a scatter to all, twice that for a sum that all get.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.distributed import ProcessGroup
from torch.distributed.distributed_c10d import _resolve_process_group
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

Share = Callable[[int], float]
SHARES: dict[str, tuple[str, Share]] = {  # operation -> what it is, and the share of its larger side that a rank sends
    "allreduce_": ("all_reduce", lambda n: 2 * (n - 1) / n),
    "all_reduce": ("all_reduce", lambda n: 2 * (n - 1) / n),
    "all_reduce_": ("all_reduce", lambda n: 2 * (n - 1) / n),
    "allgather_": ("all_gather", lambda n: (n - 1) / n),
    "_allgather_base_": ("all_gather", lambda n: (n - 1) / n),
    "all_gather_into_tensor": ("all_gather", lambda n: (n - 1) / n),
    "_reduce_scatter_base_": ("reduce_scatter", lambda n: (n - 1) / n),
    "reduce_scatter_": ("reduce_scatter", lambda n: (n - 1) / n),
    "reduce_scatter_tensor": ("reduce_scatter", lambda n: (n - 1) / n),
    "alltoall_base_": ("all_to_all", lambda n: (n - 1) / n),
    "alltoall_": ("all_to_all", lambda n: (n - 1) / n),
    "all_to_all_single": ("all_to_all", lambda n: (n - 1) / n),
    "broadcast_": ("broadcast", lambda n: (n - 1) / n),
    "gather_": ("gather", lambda n: (n - 1) / n),
    "scatter_": ("scatter", lambda n: (n - 1) / n),
    "send": ("send", lambda n: 1.0),
}
# those which send nothing that is counted
IDLE = {"recv_", "recv_any_source_", "barrier", "monitored_barrier_", "wait_tensor", "_wrap_tensor_autograd"}
FIGURES = (torch.float64, torch.int32, torch.int64)
SPACES = ("c10d", "_c10d_functional")


class Traffic(TorchDispatchMode):
    """Inside, `bytes` counts what this rank sends, by kind, on the threads that enter; ValueError for a collective that it does not know.

    `calls` counts the collectives; `among` are the same bytes by how many ranks take part. Sums and messages of float64 and of whole
    numbers, by which ranks agree on figures and on what to do, are kept apart under "figures".
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.among: Counter[int] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if any(issubclass(one, DTensor) for one in types):
            return NotImplemented  # it becomes plain operations first
        made = func(*args, **(kwargs or {}))
        if not isinstance(func, OpOverload):
            return made
        space, _, name = func._schema.name.partition("::")
        if space in SPACES and name not in IDLE:
            if name not in SHARES:
                raise ValueError(f"the collective {name} is not known here; say in train/traffic.py what it sends")
            kind, share = SHARES[name]
            kind = "figures" if kind in ("all_reduce", "send") and first(args).dtype in FIGURES else kind
            split = uneven(args) if kind == "all_to_all" else None
            many = members(args)
            whole = largest([args, made if space != "c10d" else ()]) * share(many)
            size = round(whole) if split is None else split
            self.bytes[kind] += size
            if kind != "figures":
                self.among[many] += size
            self.calls[kind] += 1
        return made

    @property
    def total(self) -> int:
        """Bytes of all but the figures by which ranks agree."""
        return sum(size for kind, size in self.bytes.items() if kind != "figures")


def first(found: Any) -> Tensor:
    """The first tensor of what a collective is given."""
    return found if isinstance(found, Tensor) else first(found[0])


def largest(found: Any) -> int:
    """Bytes of the larger side of a collective: its inputs or its outputs, each of which may be a list of parts."""
    if isinstance(found, Tensor):
        return found.numel() * found.element_size()
    if isinstance(found, list | tuple):
        if found and all(isinstance(one, Tensor) for one in found):
            return sum(largest(one) for one in found)
        return max(map(largest, found), default=0)
    return 0


def uneven(args: tuple) -> int | None:
    """Bytes that go to other ranks where a rank sends each as much as it says: (x, sizes that come, sizes that go, group)."""
    if len(args) < 4 or not isinstance(args[2], list) or not isinstance(args[3], str):
        return None
    own = _resolve_process_group(args[3]).rank()
    rows = sum(size for rank, size in enumerate(args[2]) if rank != own)
    return rows * args[0][:1].numel() * args[0].element_size() if len(args[0]) else 0


def members(args: tuple) -> int:
    """How many ranks take part."""
    for one in args:
        if isinstance(one, str) and one not in ("sum", "avg", "max", "min"):
            return _resolve_process_group(one).size()
        if not isinstance(one, str | int | bool | Tensor | list | tuple) and one is not None:
            try:
                return ProcessGroup.unbox(one).size()
            except (RuntimeError, TypeError):
                continue
    return 1
