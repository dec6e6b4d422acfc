"""Where work runs. An executor maps a function over items and gives the results back in the order of the items, so that the
outcome never depends on the number of workers. `local` uses this machine's processes; a cluster's executor has the same verb."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import ModuleType
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
        pool = processes(self.workers)
        try:
            waiting: deque = deque()
            for item in items:
                with without_main():
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


def processes(workers: int) -> ProcessPoolExecutor:
    """Fresh processes of this machine, which end with this one; submit to them inside `without_main`."""
    kind = "forkserver" if sys.platform == "linux" else "spawn"
    return ProcessPoolExecutor(workers, multiprocessing.get_context(kind), initializer=_begin, initargs=(os.getpid(),))


@contextmanager
def without_main() -> Iterator[None]:
    """Workers started inside do not import the caller's script again: they need only what is importable by name."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _begin(parent: int) -> None:
    """A worker leaves Ctrl-C, which reaches the whole group, to the parent, and ends when the parent has ended, even by SIGKILL."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    import psutil

    try:
        process = psutil.Process(parent)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.2)
    except psutil.NoSuchProcess:
        pass
    os._exit(1)
