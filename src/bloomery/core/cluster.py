"""Work on a Ray cluster. The store must be on a disk that all its machines share: what workers make is written there."""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bloomery.core.errors import BadInput, Interrupted
from bloomery.core.executors import AHEAD, Crashed, Result, ends, in_order
from bloomery.core.ranks import PATIENCE, SAVING

AGAIN = 3  # times that a task is done again whose worker has died


class Ray:
    """Tasks of a Ray cluster: at `address` (host:port of its head, `auto`, or a ray:// client), of RAY_ADDRESS, or one that is started
    here and ends with this process."""

    shares_memory = False  # its workers have memory of their own

    def __init__(self, address: str = "") -> None:
        """Connect. BadInput where Ray, or what its client needs, is missing, or no cluster answers."""
        try:
            import ray
        except ImportError:
            raise BadInput("--on ray: the package ray is missing: pip install 'bloomery[ray]'") from None
        client = address.startswith("ray://")
        if client and find_spec("grpc") is None:
            mend = "pip install 'bloomery[ray]', or name the cluster's head: --on ray:HOST:6379"
            raise BadInput(f"--on {address}: Ray's client needs the package grpcio; {mend}")
        self.ray, self.begun, self.ended = ray, set(), False
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if not ray.is_initialized():
            try:
                quiet = {"log_to_driver": False, "logging_level": "error", "configure_logging": False}
                there = {"runtime_env": environment()} if client else {}  # of the process on the head that works for a client
                ray.init(address=address or None, **there, **quiet)
            except (ConnectionError, RuntimeError, ValueError) as wrong:
                cause = (str(wrong).splitlines() or [type(wrong).__name__])[0]
                raise BadInput(
                    f"--on ray: no cluster answers at {address or 'RAY_ADDRESS'} ({cause}); start one with `ray start`"
                ) from None

    @property
    def head(self) -> str:
        """host:port under which processes on the cluster find it."""
        return self.ray.get_runtime_context().gcs_address

    @property
    def workers(self) -> int:
        """Processors of the cluster."""
        return max(1, int(self.ray.cluster_resources().get("CPU", 1)))

    def done(self, function: Callable[[Any], Any], item: Any, fixed: bool = False, say: Callable[[str], None] | None = None) -> Any:
        """A function on one item, from any thread. A task whose worker or machine dies is done again, AGAIN times, and `say` is told;
        `fixed` ones all run on one machine of the cluster, as long as it is there. Interrupted once `end` was called."""
        make, faults = remote(self.ray, **(self._first() if fixed else {})), self.ray.exceptions
        for death in range(AGAIN + 1):
            if self.ended:
                raise Interrupted("ended on the cluster")
            reference = make(function, item)
            self.begun.add(reference)
            try:
                return self.ray.get(reference)
            except faults.RayTaskError as wrong:
                raise (wrong.cause if isinstance(wrong.cause, Exception) else wrong) from None
            except faults.RayError as wrong:
                if not self.ended and say is not None and death < AGAIN:
                    say(f"a worker of the cluster {how(wrong)}; what it did is done again ({death + 1} of {AGAIN})")
                fault = how(wrong)
            finally:
                self.begun.discard(reference)
        raise BadInput(f"one task's worker on the cluster {fault} {AGAIN + 1} times; see its machine's memory and `ray status`, then go on")

    def end(self) -> None:
        """What is being `done` saves what it has, and is killed where it has not ended within SAVING seconds; nothing more begins."""
        self.ended = True
        for now in (False, True):
            for reference in list(self.begun):
                self.ray.cancel(reference, force=now)
            until = time.monotonic() + SAVING
            while self.begun and time.monotonic() < until:
                time.sleep(0.1)

    def demand_shared(self, folder: Path) -> None:
        """BadInput where a machine of the cluster does not see a folder of this one."""
        mark = folder.absolute() / f".seen-{uuid.uuid4().hex}"
        nodes = self._machines()
        mark.touch()
        try:
            able = {"num_cpus": 0, "max_retries": 0, "runtime_env": environment()}
            asked = [self.ray.remote(**able, **_place(one))(_exists).remote(str(mark)) for one in nodes]
            for one, seen in zip(nodes, self.ray.get(asked, timeout=PATIENCE), strict=True):
                if not seen:
                    where = f"{one['NodeManagerHostname']} ({one['NodeManagerAddress']})"
                    raise BadInput(f"--on ray: {where} does not see {folder}; name a store on a disk that all machines share")
        except self.ray.exceptions.RayError as wrong:
            raise BadInput(f"--on ray: a machine of the cluster does not answer within {PATIENCE:.0f} s; see `ray status`") from wrong
        finally:
            mark.unlink()

    def _first(self) -> dict[str, Any]:
        """On the machine whose name comes first, as long as it is there."""
        return _place(min(self._machines(), key=lambda one: one["NodeID"]), soft=True)

    def _machines(self) -> list[dict[str, Any]]:
        """What Ray tells of those that work."""
        return [one for one in self.ray.nodes() if one["Alive"] and one["Resources"].get("CPU")]

    def map(
        self, function: Callable[[Any], Any], items: Iterable[Any], label: str = "", crashed: Crashed | None = None, workers: int = 0
    ) -> Iterator[Any]:
        """See executors.Executor; a task whose worker or machine has died is done again as `crashed` says."""
        tasks = Tasks(self.ray, function, crashed or ends(label or function.__name__))
        width = min(self.workers, workers or self.workers)
        try:
            yield from in_order(items, tasks, AHEAD * width, AHEAD * width)
        finally:
            tasks.end()


class Tasks:
    """Items at work on the cluster, by number."""

    def __init__(self, ray: Any, function: Callable[[Any], Any], crashed: Crashed) -> None:
        self.ray, self.crashed = ray, crashed
        self.remote, self.function = remote(ray), function
        self.given: dict[Any, tuple[int, Any]] = {}  # reference -> (number, item)

    def __len__(self) -> int:
        return len(self.given)

    def give(self, number: int, item: Any) -> None:
        self.given[self.remote(self.function, item)] = number, item

    def collect(self) -> list[Result]:
        """Wait for at least one result."""
        found = []
        done, _ = self.ray.wait(list(self.given), num_returns=1)
        for reference in done:
            number, item = self.given.pop(reference)
            try:
                found.append((number, True, self.ray.get(reference)))
            except self.ray.exceptions.RayTaskError as wrong:
                found.append((number, False, wrong.cause if isinstance(wrong.cause, Exception) else wrong))
            except self.ray.exceptions.RayError as wrong:
                self.give(number, self.crashed(item, how(wrong)))
        return found

    def end(self) -> None:
        for reference in self.given:
            self.ray.cancel(reference, force=True)


def remote(ray: Any, **where: Any) -> Callable[[Callable[[Any], Any], Any], Any]:
    """Makes a task, on one processor, of a function and an item; it begins in the folder that this process is in."""
    able = {"num_cpus": 1, "max_retries": 0, "runtime_env": environment()}
    made, folder = ray.remote(**able, **where)(_applied), os.getcwd()
    return lambda function, item: made.remote(folder, function, item)


def _applied(folder: str, function: Callable[[Any], Any], item: Any) -> Any:
    try:
        os.chdir(folder)
    except OSError:
        raise BadInput(f"--on ray: a machine of the cluster has no folder {folder}; begin on a disk that all machines share") from None
    return function(item)


def _exists(mark: str) -> bool:
    return os.path.exists(mark)


def _place(node: Any, soft: bool = False) -> dict[str, Any]:
    """On this machine; with `soft` on another once it is gone."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node["NodeID"], soft=soft)}


def environment() -> dict[str, Any]:
    """The environment of processes on the cluster."""
    return {"env_vars": {"PYTHONPATH": paths()}}


def paths() -> str:
    """PYTHONPATH of processes on the cluster: methods of one's own are found there as here, because the disk is shared."""
    return os.pathsep.join(filter(None, sys.path))


def how(wrong: Exception) -> str:
    """How a worker died, in words; Ray does not always say more than that it did."""
    known = {"OutOfMemoryError": "was killed for want of memory", "NodeDiedError": "was lost with its machine"}
    return known.get(type(wrong).__name__, "died")
