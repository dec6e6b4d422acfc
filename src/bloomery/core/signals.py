"""SIGTERM and Ctrl-C: an orderly end wherever the work stands; a second Ctrl-C ends at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from types import FrameType
from typing import Any

from bloomery.core.errors import Interrupted

AGAIN = 0.05  # seconds until a signal that was swallowed comes again


class Signals:
    """While `listening`, a signal raises Interrupted; inside `deferred` it only sets `stopping`, for loops that save first.

    Python swallows what is raised while an object is cleared away (compilers clear many); such a signal comes again.
    """

    def __init__(self) -> None:
        self.stopping = False
        self.depth = 0
        self.name, self.number = "a signal", 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Only the main thread can listen; elsewhere (a notebook's worker, a server) signals are left alone."""
        try:
            old = {one: signal.signal(one, self.handle) for one in (signal.SIGTERM, signal.SIGINT)}
        except ValueError:
            yield
            return
        hook = sys.unraisablehook
        sys.unraisablehook = lambda lost: self._swallowed() if lost.exc_type is Interrupted else hook(lost)
        try:
            yield
        finally:
            sys.unraisablehook = hook
            for one, handler in old.items():
                signal.signal(one, handler)

    def _swallowed(self) -> None:
        """Send the last signal once more in a moment, while somebody listens; inside `deferred` it is known already."""

        def send() -> None:
            heard: Any = signal.getsignal(self.number)
            if heard == self.handle and not self.depth:
                os.kill(os.getpid(), self.number)

        again = Timer(AGAIN, send)
        again.daemon = True
        again.start()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1
        if self.stopping and not self.depth:
            raise Interrupted(f"stopped by {self.name}")

    def handle(self, number: int, frame: FrameType | None) -> None:
        self.name, self.number = "Ctrl-C" if number == signal.SIGINT else "SIGTERM", number
        again, self.stopping = self.stopping, True
        if self.depth == 0 or (again and number == signal.SIGINT):
            raise Interrupted(f"stopped by {self.name}")
