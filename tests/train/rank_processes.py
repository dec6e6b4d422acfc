"""Starts processes that run a function together, with an end that nothing outlives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).parent
CODE = """
import ctypes, sys; sys.path.insert(0, {here!r})
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)  # ends with the process that started it, however that ends
import datetime, torch, torch.distributed as dist
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method={meet!r}, rank=int(sys.argv[1]), world_size=int(sys.argv[2]),
                        timeout=datetime.timedelta(seconds=float(sys.argv[3])))
import {module}
{module}.{function}(*sys.argv[4:])
dist.destroy_process_group()
"""


def start(module: str, function: str, ranks: int, folder: Path, *arguments: str, patience: float = 120.0) -> list[subprocess.Popen]:
    """Processes that call MODULE.FUNCTION(*arguments), a module of this folder, each with its rank in torch.distributed."""
    meet = f"file://{folder}/meet-{uuid.uuid4().hex}"
    code = CODE.format(here=str(HERE), meet=meet, module=module, function=function)
    return [
        subprocess.Popen(
            [sys.executable, "-c", code, str(rank), str(ranks), str(patience), *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for rank in range(ranks)
    ]  # fmt: skip


def end(started: Sequence[subprocess.Popen], seconds: float = 200.0) -> list[tuple[int, str]]:
    """Exit code and output of each; what is still there after so long is killed, with all that it has started."""
    told = []
    try:
        for one in started:
            try:
                output = one.communicate(timeout=seconds)[0]
            except subprocess.TimeoutExpired:
                kill(started)
                output = one.communicate()[0] + f"\n(killed after {seconds} s)"
            told.append((one.returncode, output))
    finally:
        kill(started)
    return told


def kill(started: Sequence[subprocess.Popen]) -> None:
    for one in started:
        with suppress(ProcessLookupError):
            os.killpg(one.pid, signal.SIGKILL)


def run(module: str, function: str, ranks: int, folder: Path, *arguments: str, seconds: float = 200.0) -> list[str]:
    """The outputs, once all have ended well; they wait for each other as long as they may take."""
    told = end(start(module, function, ranks, folder, *arguments, patience=seconds), seconds)
    assert [code for code, _ in told] == [0] * ranks, "\n".join(output for _, output in told)
    return [output for _, output in told]
