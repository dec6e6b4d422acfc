"""Several passes through one module that go abreast: each stops at the same place, and goes on from there once all have come by.

A pass is an ordinary call, so that what it has computed so far lives in its frames; each runs in a thread, of which one moves at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch


class Left(BaseException):
    """A pass that will not be gone on with; no Exception, so that no module takes it for a fault of its own."""


class Pass:
    """One call. `go` lets it run until it stops or ends, `stop` is called from within it."""

    def __init__(self, run: Callable[[], Any]) -> None:
        self.run, self.at, self.out, self.wrong = run, None, None, None
        self.ended = self.left = False
        self._moves, self._rests = threading.Semaphore(0), threading.Semaphore(0)
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        self._moves.acquire()
        try:
            if not self.left:
                with torch.no_grad():  # which a thread does not inherit
                    self.out = self.run()
        except Left:
            pass
        except BaseException as wrong:
            self.wrong = wrong
        self.at, self.ended = None, True
        self._rests.release()

    def go(self) -> None:
        """Until its next stop, or to its end; raises what it raised."""
        self._moves.release()
        self._rests.acquire()
        if self.wrong is not None:
            raise self.wrong

    def stop(self, at: Any) -> None:
        """Rests here until the next `go`."""
        self.at = at
        self._rests.release()
        self._moves.acquire()
        if self.left:
            raise Left

    def leave(self) -> None:
        """Ends it wherever it rests."""
        self.left = True
        if not self.ended:
            self._moves.release()
        self.thread.join()


@contextmanager
def abreast(runs: Sequence[Callable[[], Any]]) -> Iterator[list[Pass]]:
    """The calls, none of them begun; all are ended at the end."""
    passes = [Pass(run) for run in runs]
    try:
        yield passes
    finally:
        for one in passes:
            one.leave()
