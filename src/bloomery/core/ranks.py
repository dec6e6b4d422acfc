"""Which of the processes of one launch this is, as torchrun or Slurm says in the environment, and processes of this machine started like
torchrun does."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bloomery.core.errors import BadInput
from bloomery.core.machine import memory_bytes, threads

PATIENCE = 600.0  # seconds that a process waits for another
SAVING = 30  # seconds that the others get to save and end, once one has failed
RESUMABLE, REFUSED = 75, 2  # exit codes
IDLE = 300e6  # bytes of a process that has loaded torch and trains nothing yet
PORTS = 15000, 32000  # of which a step of Slurm takes one; the system itself gives out higher ones


@dataclass(frozen=True)
class Ranks:
    """The place of a process among those that run the same recipe together."""

    rank: int = 0
    size: int = 1
    local: int = 0  # rank on its machine, which says which of its GPUs is used
    patience: float = PATIENCE

    @property
    def first(self) -> bool:
        """Whether it is the one that writes artifacts."""
        return self.rank == 0


def here() -> Ranks:
    """From RANK, WORLD_SIZE and LOCAL_RANK; a process that nobody counted is alone. BadInput for values that make no sense."""
    told = {name: os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    if not told["WORLD_SIZE"]:
        return Ranks()
    told["LOCAL_RANK"] = told["LOCAL_RANK"] or "0"
    numbers = {name: int(value) for name, value in told.items() if value.isdigit()}
    if len(numbers) < len(told) or numbers["RANK"] >= numbers["WORLD_SIZE"]:
        said = ", ".join(f"{name}={value}" for name, value in told.items())
        raise BadInput(f"{said} make no sense; start with torchrun or --processes")
    return Ranks(numbers["RANK"], numbers["WORLD_SIZE"], numbers["LOCAL_RANK"])


def neighbours() -> int:
    """Processes of this launch on this machine, as torchrun says; 0 where nobody counted them."""
    told = os.environ.get("LOCAL_WORLD_SIZE", "")
    return int(told) if told.isdigit() else 0


def of_slurm(told: Mapping[str, str]) -> dict[str, str]:
    """What torchrun would say to this process, of what srun says to each of its tasks; {} where it is no task of several.

    Only what srun sets for a step counts: a batch script has SLURM_PROCID=0 and the sizes of its job, too, and runs alone.
    """
    size, rank = told.get("SLURM_STEP_NUM_TASKS", ""), told.get("SLURM_PROCID", "")
    if told.get("WORLD_SIZE") or not (size.isdigit() and rank.isdigit()) or int(size) == 1:
        return {}
    if not (first := first_host(told.get("SLURM_STEP_NODELIST", ""))):
        raise BadInput("srun started this process and SLURM_STEP_NODELIST names no machine; set MASTER_ADDR and the like, or use torchrun")
    here, groups = int(told.get("SLURM_NODEID", "0")), told.get("SLURM_STEP_NUM_NODES", "1")
    number = int(told.get("SLURM_JOB_ID", "0")) * 7 + int(told.get("SLURM_STEP_ID", "0"))
    named = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": told.get("SLURM_LOCALID", "0"), "GROUP_RANK": str(here)}
    named |= {"GROUP_WORLD_SIZE": groups, "LOCAL_WORLD_SIZE": str(tasks(told.get("SLURM_STEP_TASKS_PER_NODE", size))[here])}
    named |= {"MASTER_ADDR": told.get("MASTER_ADDR", first)}
    return named | {"MASTER_PORT": told.get("MASTER_PORT", str(PORTS[0] + number % (PORTS[1] - PORTS[0])))}


def first_host(hosts: str) -> str:
    """Of a list as Slurm writes it: gpu[003-010,012],login7 begins with gpu003."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", hosts)
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first[0]) if first else ""


def tasks(counts: str) -> list[int]:
    """Processes of each machine, as Slurm writes them: 8(x2),4 are 8, 8 and 4."""
    found = []
    for part in counts.split(","):
        number, _, times = part.partition("(x")
        found += [int(number)] * int(times.rstrip(")") or 1)
    return found


def launch(processes: int, arguments: Sequence[str], restarts: int = 0) -> int:
    """Run `bloomery ARGUMENTS` in so many processes of this machine, watched by torch's elastic agent; the exit code of the first that
    failed, 0 where none did. All end where one ends otherwise, and are started again as `repeated` says."""
    if processes > (most := max(1, int(memory_bytes() / IDLE))):
        raise BadInput(
            f"--processes {processes}: each takes {IDLE / 1e6:.0f} MB before it trains, and this machine's {memory_bytes() / 1e9:.1f} GB "
            f"hold {most}; ask for no more, or start them on several machines by torchrun, srun or --on ray"
        )
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, threads() // processes)))
    return repeated(lambda again: begun(processes, arguments, again), restarts)


def repeated(start: Callable[[int], int], restarts: int) -> int:
    """The exit code of the last start: where one fails another follows, up to `restarts` times. A refusal (2) is final, and so is an
    orderly stop (75)."""
    for again in range(restarts + 1):
        code = start(again)
        if code in (0, REFUSED, RESUMABLE) or again == restarts:
            break
        print(f"bloomery: all are started again ({again + 1} of {restarts})", file=sys.stderr, flush=True)
    return code


def begun(processes: int, arguments: Sequence[str], again: int) -> int:
    """One start of `launch`, its exit code."""
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    hush("torch.distributed.elastic", "torch.distributed.launcher")
    config = LaunchConfig(
        1, 1, processes, run_id=f"bloomery-{os.getpid()}-{again}", rdzv_backend="c10d", rdzv_endpoint="localhost:0", local_addr="localhost",
        max_restarts=0, shutdown_timeout=SAVING,
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)("-m", "bloomery", *arguments)
    except ChildFailedError as wrong:
        return explained({rank: failure.exitcode for rank, failure in wrong.failures.items()}, wrong.get_first_failure()[0])
    except SignalException:
        return RESUMABLE
    return 0


def hush(*names: str) -> None:
    """What these loggers have to say is said by the launch in one sentence; those below them have levels of their own."""
    for name in names:
        above = logging.getLogger(name)
        above.handlers, above.propagate = [logging.NullHandler()], False


def explained(codes: dict[int, int], first: int) -> int:
    """The exit code of a launch in which processes have failed: that of the first. One that a signal has killed is named; SIGTERM does not
    count, which those get that are left, nor what befalls them after a refusal."""
    if codes[first] == REFUSED:
        return REFUSED
    killed = [rank for rank, code in sorted(codes.items()) if code < 0 and -code != signal.SIGTERM]
    if not killed:
        return max(codes[first], 1)
    told = " and ".join(f"rank {rank} ({signal.Signals(-codes[rank]).name})" for rank in killed)
    print(f"bloomery: killed: {told}; the same command goes on from the last checkpoint", file=sys.stderr)
    return 1
