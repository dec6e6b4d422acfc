"""What this machine can do: cores, memory, number formats, a compiler, and its measured speed at matrix products."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from bloomery.core.files import write_json
from bloomery.core.speeds import Speeds

SPEEDS = "speeds.json"
GROUP = Path("/sys/fs/cgroup")  # of this process, where it is in a container


@dataclass(frozen=True)
class Machine:
    """Measured once per store; predictions of time and memory are made from it."""

    name: str
    cores: int
    memory: int  # bytes
    bf16: bool  # bfloat16 matrix products in hardware
    matmul_flops: dict[str, float]  # precision -> floating-point operations a second
    bandwidth: float = 0.0  # bytes that one copy of a large array moves a second, reading and writing; 0 = not measured
    place: Path | None = None  # the folder where measurements are kept
    effort: Literal["usual", "measured", "tried"] = "measured"  # of a forecast: go by what is usual where there is room, measure, or try

    def facts(self) -> dict:
        return {name: value for name, value in asdict(self).items() if name not in ("place", "effort")}

    def speeds(self) -> Speeds:
        """What is measured by name, kept beside what is measured here."""
        return Speeds(self.place / SPEEDS if self.place else None)


def threads() -> int:
    """Cores that this process may use; OMP_NUM_THREADS lowers it, as it does elsewhere."""
    wished = os.environ.get("OMP_NUM_THREADS", "")
    cores = _cores()
    return min(cores, int(wished)) if wished.isdigit() and int(wished) else cores


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """What the processor is called."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


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
        limit = (GROUP / "memory.max").read_text().strip()
        return min(total, int(limit)) if limit.isdigit() else total
    except OSError:
        return total


def memory_free() -> int:
    """Bytes that a process may still take without swapping: what the kernel calls available, less where a control group allows less.

    A group's count holds pages of files that were read, too, which the kernel gives up when memory is asked for.
    """
    free = _available()
    with contextlib.suppress(OSError, ValueError):
        most, held = (int((GROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        free = min(free, most - held + _idle_files())
    return max(0, free)


def _idle_files() -> int:
    """Bytes of files in the memory of this control group that nobody has used lately."""
    with contextlib.suppress(OSError):
        parts = dict(line.split() for line in (GROUP / "memory.stat").read_text().splitlines())
        return int(parts.get("inactive_file", 0))
    return 0


def _available() -> int:
    import psutil

    return psutil.virtual_memory().available


def resident() -> int:
    """Bytes that this process and all that it has started hold now; pages that several of them share count for each."""
    import psutil

    held, own = 0, psutil.Process()
    for process in (own, *own.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            held += process.memory_info().rss
    return held


def release() -> None:
    """Give freed memory back to the system, which allocators otherwise keep for later."""
    gc.collect(1)  # a whole collection takes seconds in a process that holds much else
    if "pyarrow" in sys.modules:
        sys.modules["pyarrow"].default_memory_pool().release_unused()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # a C library without it
            ctypes.CDLL(None).malloc_trim(0)


def disband() -> None:
    """End the threads that OpenMP divides this thread's work over; its next work begins with new ones.

    GNU's OpenMP keeps such a team for every thread that ever had parallel work, and once all teams together hold more threads than there
    are cores, waiting ones no longer spin but sleep: another thread's work then takes up to half as long again.
    """
    if "torch" in sys.modules:
        with contextlib.suppress(OSError, AttributeError):  # another runtime, or one before OpenMP 5
            ctypes.CDLL(None).omp_pause_resource_all(1)


def measure() -> Machine:
    """Measure matrix products (2 x n^3 operations each, best of a few), by torch where it is installed, else by numpy; half a second."""
    name, bandwidth = processor(), _bandwidth()  # first, while this process is small
    speeds = {}
    for precision in ("float32", "bfloat16") if has_bf16() else ("float32",):
        product = _product(precision)
        if product:
            product()
            speeds[precision] = 2 * 1024**3 / min(_seconds(product) for _ in range(8))
    return Machine(name, threads(), memory_bytes(), has_bf16(), speeds, bandwidth)


@functools.cache
def _measured_apart() -> Machine:
    """`measure` in a process of its own: torch, which it uses, takes 200 MB that a step may need for something else."""
    code = "import json; from bloomery.core.machine import measure; print(json.dumps(measure().facts()))"
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": paths}
    )
    return Machine(**json.loads(done.stdout.splitlines()[-1])) if done.returncode == 0 else measure()


def _bandwidth() -> float:
    """By copies of 64 MB, which no cache holds."""
    import numpy as np

    source, target = np.ones(1 << 26, np.uint8), np.zeros(1 << 26, np.uint8)
    return 2 * source.nbytes / min(_seconds(lambda: np.copyto(target, source)) for _ in range(4))


def _product(precision: str) -> Callable[[], Any] | None:
    """A product of two 1024 x 1024 matrices; None for a format that numpy alone does not have."""
    try:
        import torch
    except ModuleNotFoundError:
        import numpy as np

        ones = np.ones((1024, 1024), np.float32)
        return (lambda: ones @ ones) if precision == "float32" else None
    x = torch.ones(1024, 1024, dtype=getattr(torch, precision))
    return lambda: x @ x


def _seconds(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def remembered(path: Path) -> Machine:
    """The machine as measured before (kept at `path`, beside the store), measured now where it is new or has changed.

    A store that was carried to another processor brings speeds of the old one along, which are then forgotten.
    """
    known = None
    with contextlib.suppress(OSError, ValueError, TypeError):
        known = Machine(**json.loads(path.read_text()), place=path.parent)
    if known and known.name != processor():
        with contextlib.suppress(OSError):
            (path.parent / SPEEDS).unlink()
    elif known and (known.cores, known.bf16) == (threads(), has_bf16()) and known.bandwidth:
        return known
    machine = replace(_measured_apart(), place=path.parent)
    with contextlib.suppress(OSError):  # a full disk is named where it stops a step; here it only means measuring again
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, machine.facts())
    return machine
