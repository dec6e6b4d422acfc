"""SIGTERM and Ctrl-C: an orderly end wherever the work stands; a second Ctrl-C ends at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from bloomery.core.errors import Interrupted


class Signals:
    """While `listening`, a signal raises Interrupted; inside `deferred` it only sets `stopping`, for loops that save first."""

    def __init__(self) -> None:
        self.stopping = False
        self.depth = 0
        self.name = "a signal"

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Only the main thread can listen; elsewhere (a notebook's worker, a server) signals are left alone."""
        try:
            old = {one: signal.signal(one, self.handle) for one in (signal.SIGTERM, signal.SIGINT)}
        except ValueError:
            yield
            return
        try:
            yield
        finally:
            for one, handler in old.items():
                signal.signal(one, handler)

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
        self.name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
        again, self.stopping = self.stopping, True
        if self.depth == 0 or (again and number == signal.SIGINT):
            raise Interrupted(f"stopped by {self.name}")
