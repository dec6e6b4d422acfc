"""Several passes through one module that go abreast: each stops at the same place, and goes on from there once all have come by.

A pass is an ordinary call, so that what it has computed so far lives in its frames; each has a stack of its own. They share one thread, and
with it the threads that products are divided over, and the memory that they give back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from greenlet import greenlet


class Pass:
    """One call. `go` lets it run until it stops or ends, `stop` is called from within it."""

    def __init__(self, run: Callable[[], Any]) -> None:
        self.stack = greenlet(run)
        self.at: Any = None  # where it rests
        self.out: Any = None  # what it returned

    @property
    def ended(self) -> bool:
        return self.stack.dead

    def go(self) -> None:
        """Until its next stop, or to its end; raises what it raised."""
        told = self.stack.switch()
        self.at, self.out = (None, told) if self.ended else (told, None)

    def stop(self, at: Any) -> None:
        """Rests here until the next `go`."""
        self.stack.parent.switch(at)


@contextmanager
def abreast(runs: Sequence[Callable[[], Any]]) -> Iterator[list[Pass]]:
    """The calls, none of them begun; all are ended at the end, wherever they rest."""
    passes = [Pass(run) for run in runs]
    try:
        yield passes
    finally:
        for one in passes:
            one.stack.throw()  # GreenletExit, which is no Exception, so that no module takes it for a fault of its own
