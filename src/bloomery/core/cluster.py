"""Work on a Ray cluster. The store must be on a disk that all its machines share: what workers make is written there."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.core.executors import AHEAD, Crashed, Result, ends, in_order


class Ray:
    """Tasks of a Ray cluster: at `address` (host:port of its head, `auto`, or a ray:// client), of RAY_ADDRESS, or one that is started
    here and ends with this process."""

    shares_memory = False  # its workers have memory of their own

    def __init__(self, address: str = "") -> None:
        """Connect. BadInput where Ray is missing or no cluster answers."""
        try:
            import ray
        except ImportError:
            raise BadInput("--on ray: the package ray is missing: pip install 'bloomery[ray]'") from None
        self.ray = ray
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if not ray.is_initialized():
            try:
                ray.init(address=address or None, log_to_driver=False, logging_level="error", configure_logging=False)
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
        self.remote = ray.remote(num_cpus=1, max_retries=0, runtime_env={"env_vars": {"PYTHONPATH": paths()}})(_applied)
        self.function = function
        self.given: dict[Any, tuple[int, Any]] = {}  # reference -> (number, item)

    def __len__(self) -> int:
        return len(self.given)

    def give(self, number: int, item: Any) -> None:
        self.given[self.remote.remote(self.function, item)] = number, item

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


def _applied(function: Callable[[Any], Any], item: Any) -> Any:
    return function(item)


def paths() -> str:
    """PYTHONPATH of processes on the cluster: methods of one's own are found there as here, because the disk is shared."""
    return os.pathsep.join(filter(None, sys.path))


def how(wrong: Exception) -> str:
    """How a worker died, in words; Ray does not always say more than that it did."""
    known = {"OutOfMemoryError": "was killed for want of memory", "NodeDiedError": "was lost with its machine"}
    return known.get(type(wrong).__name__, "died")
