"""A run in which no step ends: the stacks of all threads are printed and the process ends.

Python's faulthandler does it from a thread of C, so that a lock held or a library that never returns cannot keep it from happening.
Every rank has a watch of its own, and a step that one rank does not end ends on none: each prints its stacks.
"""

from __future__ import annotations

import faulthandler
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STDERR = 2


@contextmanager
def watching(seconds: float) -> Iterator[Callable[[], None]]:
    """Gives what is to be called after every step; the process ends with code 1 between 1 and 1.25 times `seconds` after the last call.

    With 0 nothing is watched. Setting the alarm costs a thread, so that it is set anew only every quarter of the time.
    """
    if not seconds:
        yield lambda: None
        return
    armed = 0.0

    def alive() -> None:
        nonlocal armed
        now = time.monotonic()
        if now - armed >= seconds / 4:
            armed = now
            faulthandler.dump_traceback_later(1.25 * seconds, exit=True, file=STDERR)

    armed = -seconds
    try:
        alive()
        yield alive
    finally:
        faulthandler.cancel_dump_traceback_later()
