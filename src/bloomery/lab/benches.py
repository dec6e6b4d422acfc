"""Where the trials of claims and comparisons run: on the cores of this machine, or on a cluster.

A cluster's workers write into the caller's store, which lies on a disk that all its machines share; a trial has one thread there as here,
so that it has the same address and the same figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bloomery.core.errors import BadInput
from bloomery.core.executors import Local, executor
from bloomery.core.store import Store
from bloomery.lab import timing, trials

if TYPE_CHECKING:
    from bloomery.core.cluster import Ray


class Scattered(trials.Bench):
    """Trials on a cluster, one a processor. A trial whose worker dies is run again, from its last checkpoint where it has one."""

    def __init__(self, store: Store, cluster: Ray, say: Callable[[str], None]) -> None:
        super().__init__(store, cluster.workers)
        self.cluster, self.say, self.inline = cluster, say, False
        self.waiting = ThreadPoolExecutor(cluster.workers, "trial")  # each for one task of the cluster

    def submit(self, function: Callable[[Any], Any], task: Any) -> Future[Any]:
        """A function on one task, on any machine; what is timed always runs on the same one."""
        return self.waiting.submit(self.cluster.done, function, task, function is timing.timed, self.say)

    def map(self, function: Callable[[Any], Any], items: Iterable[Any], label: str = "") -> Iterator[Any]:
        """As executors do: results in the order of the items."""
        for one in [self.submit(function, item) for item in items]:
            yield one.result()

    def close(self, now: bool = False) -> None:
        self.waiting.shutdown(wait=not now, cancel_futures=now)
        if now:
            self.cluster.end()


@contextmanager
def bench(store: Store, on: str, workers: int, say: Callable[[str], None]) -> Iterator[trials.Bench]:
    """Where trials run: `on` as executors name it, `workers` of this machine at most. Inside it works; an error ends it at once.
    BadInput where a machine of the cluster does not see the store."""
    place = executor(on, store.root)
    if isinstance(place, Local):
        made = trials.Bench(store, min(place.workers, workers or place.workers))
    elif workers:
        raise BadInput(f"--workers {workers}: it goes with --on local; on a cluster as many trials run as it has processors")
    else:
        made = Scattered(store, place, say)
    try:
        yield made
    except BaseException:
        made.close(now=True)
        raise
    made.close()
