"""What this machine can do: cores, memory, number formats, a compiler, and its measured speed at matrix products."""

from __future__ import annotations

import functools
import json
import os
import platform
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """Measured once per store; predictions of time and memory are made from it."""

    name: str
    cores: int
    memory: int  # bytes
    bf16: bool  # bfloat16 matrix products in hardware
    matmul_flops: dict[str, float]  # precision -> floating-point operations a second

    def facts(self) -> dict:
        return asdict(self)


def threads() -> int:
    """Cores that this process may use; OMP_NUM_THREADS lowers it, as it does elsewhere."""
    wished = os.environ.get("OMP_NUM_THREADS", "")
    cores = _cores()
    return min(cores, int(wished)) if wished.isdigit() and int(wished) else cores


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware; emulated bfloat16 is slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.system() == "Darwin" and platform.machine() == "arm64"
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16", " bf16"))


def compiler() -> str | None:
    """A C++ compiler on PATH, which torch.compile needs on a processor; None where there is none."""
    return next((found for name in (os.environ.get("CXX", ""), "g++", "clang++", "c++") if name and (found := shutil.which(name))), None)


def memory_bytes() -> int:
    """Physical memory, or the control group's limit where that is lower."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        return min(total, int(limit)) if limit.isdigit() else total
    except OSError:
        return total


def measure() -> Machine:
    """Measure matrix products (2 x n^3 operations each, best of a few); takes about half a second after torch is imported."""
    import torch

    speeds: dict[str, float] = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        if name == "bfloat16" and not has_bf16():
            continue
        x = torch.ones(1024, 1024, dtype=dtype)
        x @ x
        best = 0.0
        for _ in range(8):
            begin = time.perf_counter()
            x @ x
            best = max(best, 2 * 1024**3 / (time.perf_counter() - begin))
        speeds[name] = best
    return Machine(platform.processor() or platform.machine(), threads(), memory_bytes(), has_bf16(), speeds)


def remembered(path: Path) -> Machine:
    """The machine as measured before (kept at `path`, beside the store), measured now where it is new or has changed."""
    try:
        known = Machine(**json.loads(path.read_text()))
        if (known.cores, known.bf16) == (threads(), has_bf16()):
            return known
    except (OSError, ValueError, TypeError):
        pass
    machine = measure()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(machine.facts(), indent=1) + "\n")
    return machine
