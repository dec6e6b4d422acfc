"""Processes of this machine, each with one item at a time, so that whoever dies is known by its item."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import connection
from multiprocessing.util import Finalize
from types import ModuleType
from typing import Any


class Worker:
    """One process that applies a function to the items it is given; `item` is its number while it is at work, None while it waits.

    `end` stops it, as does the end of this process.
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        """Start it; the function must be importable by name."""
        context = _context()
        self.pipe, other = context.Pipe()
        with without_main():
            self.process = context.Process(target=_serve, args=(other, function, os.getpid()))
            self.process.start()
        other.close()
        self.item: int | None = None
        self.end = Finalize(self, _end, (self.pipe, self.process), exitpriority=10)

    def give(self, number: int, item: Any) -> None:
        """Let it work on an item. A worker that is dead by now is found so by `result`."""
        self.item = number
        with suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(item)

    def result(self) -> tuple[bool, Any]:
        """Whether the work succeeded, and its result or error. Died when the process has ended instead."""
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            raise Died(ending(self.process.exitcode or 0)) from None


class Died(Exception):
    """A worker has ended in the midst of its work; the text says how."""


def _end(pipe: connection.Connection, process: Any) -> None:
    """Stop a process at once."""
    pipe.close()
    process.terminate()
    process.join()


def ready(workers: list[Worker]) -> Iterator[Worker]:
    """Wait for workers that have a result, or that have died."""
    found = connection.wait([worker.pipe for worker in workers])
    return (worker for worker in workers if worker.pipe in found)


def ending(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}{', most likely for want of memory' if name == 'SIGKILL' else ''}"


def _serve(pipe: connection.Connection, function: Callable[[Any], Any], parent: int) -> None:
    """What a worker does: one item after the other, until there are no more."""
    _begin(parent)
    with suppress(EOFError, OSError):
        while True:
            item = pipe.recv()
            try:
                outcome = (True, function(item))
            except Exception as error:
                error.add_note("in a worker:\n" + "".join(traceback.format_exception(error)))
                outcome = (False, error)
            _send(pipe, outcome)


def _send(pipe: connection.Connection, outcome: tuple[bool, Any]) -> None:
    """Send a result; one that cannot be sent is told in words."""
    try:
        pipe.send(outcome)
    except OSError:
        raise
    except Exception as error:
        pipe.send((False, RuntimeError(f"{type(outcome[1]).__name__}: {outcome[1]} (which cannot be sent: {error})")))


def preload(*modules: str) -> None:
    """Let workers that are started from now on come with these modules, imported once for all; without effect once one has started."""
    if sys.platform == "linux":
        _context().set_forkserver_preload(list(modules))


def _context() -> Any:
    return multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")


def processes(workers: int) -> ProcessPoolExecutor:
    """Fresh processes of this machine, which end with this one; submit to them inside `without_main`."""
    return ProcessPoolExecutor(workers, _context(), initializer=_begin, initargs=(os.getpid(),))


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
    end_with(parent)


def end_with(parent: int) -> None:
    """From now on this process ends when that one has, however it does."""
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
