"""Where work runs. An executor maps a function over items and gives the results back in the order of the items, so that the
outcome never depends on the number of workers. `local` uses this machine's processes; a cluster's executor has the same verb."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

from bloomery.core.machine import threads


class Executor(Protocol):
    """`function` must be importable by name, items and results must pickle; an exception in a worker is raised here."""

    def map(self, function: Callable[[Any], Any], items: Iterable[Any], label: str = "") -> Iterator[Any]: ...


class Local:
    """Processes of this machine; one worker runs in this process. At most four items a worker are in flight, so that memory is bounded."""

    def __init__(self, workers: int = 0):
        self.workers = workers or threads()

    def map(self, function: Callable[[Any], Any], items: Iterable[Any], label: str = "") -> Iterator[Any]:
        if self.workers == 1:
            yield from map(function, items)
            return
        kind = "forkserver" if sys.platform == "linux" else "spawn"
        pool = ProcessPoolExecutor(self.workers, multiprocessing.get_context(kind), initializer=_leave_signals)
        try:
            waiting: deque = deque()
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 4 * self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as broken:
            what = label or function.__name__
            raise RuntimeError(
                f"a worker process of '{what}' was killed, most likely for want of memory: free some, then run again"
            ) from broken
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _leave_signals() -> None:
    """Ctrl-C reaches the whole process group; the parent decides what to do about it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
