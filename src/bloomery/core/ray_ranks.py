"""Processes of one launch on the machines of a Ray cluster. Ray starts them and sees how they end; what they tell each other goes through
torch.distributed, as under torchrun."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from bloomery.core.cluster import Ray, how, paths
from bloomery.core.errors import BadInput, Interrupted
from bloomery.core.ranks import PATIENCE, RESUMABLE, SAVING, explained, repeated
from bloomery.core.signals import Signals

BEAT = 0.3  # seconds that a look at a process waits for its words
GIVEN_UP = 10.0  # seconds after SIGKILL until a process counts as lost with its machine
LOST = 1  # exit code that is given to a process whose worker has gone
PROGRAM = ("-m", "bloomery")
AWAY = re.compile(r"RAY_(?!AUTH_)|PYTHONBREAKPOINT$")  # what a process does not take over of its Ray worker, unlike how to be let in


@dataclass(frozen=True)
class Place:
    """Where one rank runs."""

    node: str  # Ray's name of the machine
    local: int  # its number there
    locals: int  # ranks of that machine
    group: int  # number of the machine
    groups: int  # machines


def launch(
    cluster: Ray, processes: int, arguments: Sequence[str], restarts: int = 0, patience: float = PATIENCE,
    program: Sequence[str] = PROGRAM,
) -> int:  # fmt: skip
    """Run `python PROGRAM ARGUMENTS` in so many processes of the cluster; the exit code of the first that failed, 0 where none did.

    All end where one ends otherwise, or its machine is lost, and all are started again as `ranks.repeated` says, where there is room.
    SIGTERM and Ctrl-C go to all of them. BadInput where the cluster has too little room from the start.
    """
    signals, code = Signals(), RESUMABLE  # which it stays where a second Ctrl-C cuts it short

    def start(again: int) -> int:
        nodes = cluster.ray.nodes()
        with Start(cluster.ray, allotted(nodes, processes), again, patience, signals) as one:
            ended = one.run(arguments, threads(nodes, one.places), program)
        return RESUMABLE if signals.stopping else ended

    with signals.listening(), suppress(Interrupted), signals.deferred():
        code = repeated(start, restarts)
    return code


def allotted(nodes: Sequence[Mapping[str, Any]], processes: int) -> list[Place]:
    """The place of every rank, of what `ray.nodes()` tells: one GPU each where the cluster has any, a processor each otherwise; on as few
    machines as hold them, and neighbours on one. BadInput where there is not room for all."""
    kind = unit(nodes)
    room = {one["NodeID"]: int(one["Resources"].get(kind, 0)) for one in nodes if one["Alive"]}
    if sum(room.values()) < processes:
        raise BadInput(f"--processes {processes}: the Ray cluster has {counted(sum(room.values()), kind)}; ask for no more than that")
    left, taken = processes, []
    for node in sorted(room, key=lambda one: (-room[one], one)):
        if left:
            taken.append((node, min(left, room[node])))
            left -= taken[-1][1]
    return [Place(node, local, size, group, len(taken)) for group, (node, size) in enumerate(taken) for local in range(size)]


def unit(nodes: Sequence[Mapping[str, Any]]) -> str:
    """What a rank needs one of."""
    return "GPU" if any(one["Resources"].get("GPU") for one in nodes if one["Alive"]) else "CPU"


def counted(number: int, kind: str) -> str:
    word = {"GPU": "GPU", "CPU": "processor"}[kind]
    return f"{number} {word}" + ("" if number == 1 else "s")


def gpus(cluster: Ray) -> int:
    """GPUs of the cluster."""
    return sum(int(one["Resources"].get("GPU", 0)) for one in cluster.ray.nodes() if one["Alive"])


def threads(nodes: Sequence[Mapping[str, Any]], places: Sequence[Place]) -> int:
    """Of each process, the same for all, because they are part of the numeric mode: OMP_NUM_THREADS of the launch, or what every machine
    has for its ranks."""
    if (wish := os.environ.get("OMP_NUM_THREADS", "")).isdigit() and int(wish):
        return int(wish)
    cores = {one["NodeID"]: int(one["Resources"].get("CPU", 0)) for one in nodes}
    return max(1, min(cores[place.node] // place.locals for place in places))


@dataclass
class Start:
    """One start of all processes; inside `with` they have seats, which end with it."""

    ray: Any
    places: list[Place]
    number: int
    patience: float
    signals: Signals
    seats: list[Any] = field(default_factory=list)
    codes: dict[int, int] = field(default_factory=dict)  # of ranks that have ended
    lost: dict[int, str] = field(default_factory=dict)  # how, of those whose machine or worker has gone

    def __enter__(self) -> Start:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        gpus = 1 if unit(self.ray.nodes()) == "GPU" else 0
        able = {"num_cpus": 0, "num_gpus": gpus, "max_restarts": 0, "runtime_env": {"env_vars": {"PYTHONPATH": paths()}}}
        seat = self.ray.remote(**able)(Seat)
        fixed = [NodeAffinitySchedulingStrategy(place.node, soft=False) for place in self.places]
        self.seats = [seat.options(scheduling_strategy=one).remote() for one in fixed]
        return self

    def __exit__(self, *error: object) -> None:
        for seat in self.seats:
            self.ray.kill(seat)

    def run(self, arguments: Sequence[str], threads: int, program: Sequence[str]) -> int:
        """Begin, pass on what the processes say, and end all where one fails; the exit code of the start."""
        try:
            self.begin(arguments, threads, program)
        except self.ray.exceptions.RayError as wrong:
            self.lost[0], first = f"or another could not be started: its Ray worker {how(wrong)}", 0
        else:
            first = self.until_all_end()
        for rank, said in sorted(self.lost.items()):
            print(f"bloomery: rank {rank} {said}; the same command goes on from the last checkpoint", file=sys.stderr, flush=True)
        return 0 if first is None else explained({rank: code for rank, code in self.codes.items() if code} or {0: 1}, first)

    def begin(self, arguments: Sequence[str], threads: int, program: Sequence[str]) -> None:
        """All processes, with what torchrun would tell them. BadInput where there is no room for one, or its machine lacks the folder."""
        self.demand_seats()
        address, port = self.ray.get(self.seats[0].hold.remote())
        launch = {name: value for name, value in os.environ.items() if name.startswith("BLOOMERY_")}
        launch |= {"MASTER_ADDR": address, "MASTER_PORT": str(port), "WORLD_SIZE": str(len(self.seats))}
        launch |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": str(self.number)}
        launch |= {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": paths()}
        begun = [
            seat.begin.remote([*program, *arguments], {**launch, **who(rank, place)}, os.getcwd())
            for rank, (seat, place) in enumerate(zip(self.seats, self.places, strict=True))
        ]
        for rank, refused in enumerate(self.ray.get(begun)):
            if refused:
                raise BadInput(f"rank {rank}: {refused}")

    def demand_seats(self) -> None:
        """All seats are there within the launch's patience."""
        there, until = [seat.ready.remote() for seat in self.seats], time.monotonic() + self.patience
        while len(done := self.ray.wait(there, num_returns=len(there), timeout=1.0)[0]) < len(there):
            if self.signals.stopping:
                raise Interrupted("stopped before the processes had begun")
            if time.monotonic() > until:
                told = f"--processes {len(there)}: the Ray cluster found room for {len(done)} within {self.patience:.0f} s"
                raise BadInput(f"{told}; `ray status` shows who has the rest")
        self.ray.get(there)

    def until_all_end(self) -> int | None:
        """Fills `codes` and `lost`; the rank that failed first, None where none did."""
        looks = {seat.look.remote(): rank for rank, seat in enumerate(self.seats)}
        first, asked, killed = None, None, None
        while looks:
            for look in self.ray.wait(list(looks), num_returns=1, timeout=1.0)[0]:
                rank = looks.pop(look)
                code = self.seen(rank, look)
                if code is None:
                    looks[self.seats[rank].look.remote()] = rank
                else:
                    ours = killed is not None and code == -signal.SIGKILL  # it did not end when it was told to
                    self.codes[rank] = -signal.SIGTERM if ours else code
                    first = rank if code and first is None else first
            now = time.monotonic()
            if asked is None and (first is not None or self.signals.stopping):
                asked = self.told(looks.values(), signal.SIGTERM)
            elif asked is not None and killed is None and now > asked + SAVING:
                killed = self.told(looks.values(), signal.SIGKILL)
            elif killed is not None and now > killed + GIVEN_UP:
                for rank in looks.values():
                    self.codes[rank], self.lost[rank] = LOST, "does not answer, nor does its Ray worker"
                looks = {}
        return first

    def seen(self, rank: int, look: Any) -> int | None:
        """Passes on what a process said; its exit code, None while it runs."""
        try:
            said, code = self.ray.get(look)
        except self.ray.exceptions.RayActorError as wrong:
            self.lost[rank] = f"was lost: its Ray worker {how(wrong)}"
            return LOST
        for error, line in said:
            print(line, end="", file=sys.stderr if error else sys.stdout, flush=True)
        return code

    def told(self, ranks: Any, number: int) -> float:
        """Sends a signal to processes; the time."""
        for rank in list(ranks):
            self.seats[rank].signal.remote(int(number))
        return time.monotonic()


def who(rank: int, place: Place) -> dict[str, str]:
    """Who a process is, as torchrun says it."""
    named = {"RANK": rank, "LOCAL_RANK": place.local, "LOCAL_WORLD_SIZE": place.locals}
    named |= {"GROUP_RANK": place.group, "GROUP_WORLD_SIZE": place.groups}
    return {name: str(value) for name, value in named.items()}


class Seat:
    """A Ray actor that starts one process of a launch, passes on what it says, and ends with it."""

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None
        self.lines: queue.Queue[tuple[bool, str]] = queue.Queue()
        self.readers: list[threading.Thread] = []
        self.store: Any = None

    def ready(self) -> None:
        """Answers once the seat is there."""

    def hold(self) -> tuple[str, int]:
        """Address and port of a key-value store for the launch, which outlives whichever process ends."""
        import ray
        from torch.distributed import TCPStore

        address = ray.util.get_node_ip_address()
        self.store = TCPStore(address, 0, is_master=True, wait_for_workers=False)
        return address, self.store.port

    def begin(self, arguments: Sequence[str], environment: Mapping[str, str], folder: str) -> str:
        """Start the process, whose parent is this one; why it cannot be, "" where it can."""
        if not os.path.isdir(folder):
            return f"its machine has no folder {folder}; a launch on Ray begins on a disk that all machines share"
        kept = {name: value for name, value in os.environ.items() if not AWAY.match(name)}
        self.process = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, env={**kept, **environment, "BLOOMERY_PARENT": str(os.getpid())},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
        )  # fmt: skip
        for error, stream in ((False, self.process.stdout), (True, self.process.stderr)):
            self.readers.append(threading.Thread(target=self._read, args=(error, stream), daemon=True))
            self.readers[-1].start()
        return ""

    def look(self) -> tuple[list[tuple[bool, str]], int | None]:
        """Lines that it has said meanwhile, (whether on standard error, line), and its exit code, None while it runs."""
        said = []
        with suppress(queue.Empty):
            said.append(self.lines.get(timeout=BEAT))
        code = self.process.poll()
        if code is not None:
            for reader in self.readers:
                reader.join(timeout=BEAT)  # what it has started may hold its pipes
        with suppress(queue.Empty):
            while True:
                said.append(self.lines.get_nowait())
        return said, code

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def _read(self, error: bool, stream: Any) -> None:
        for line in stream:
            self.lines.put((error, line))
