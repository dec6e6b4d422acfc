"""How long a step takes a rank by itself, so that a slow one among many can be named.

What a rank waits in collectives that the loop calls is not its own work. Collectives within the model (shard, tensor, context) cannot be
told from work, and there all ranks are as slow as the slowest. A process that is stopped, or whose machine is, notices by a clock of its
own: a thread that should wake twice a second and does not.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

BEAT = 0.5  # seconds between two looks at the clock
LEAST = 2.0  # seconds of lag that are worth a word
TIMES = 3.0  # as long as the others' middle one
SILENT = 60.0  # seconds until the same rank is named again


class Pace:
    """Seconds of this rank: at work, and held up, since the last lap."""

    def __init__(self) -> None:
        self.begun, self.waited, self.held = time.monotonic(), 0.0, 0.0
        self.named: dict[int, float] = {}
        self.watch: threading.Thread | None = None

    def lap(self) -> tuple[float, float]:
        """(seconds at work, seconds held up) since the last lap; the first one has what is done before any step, and counts for nothing."""
        now = time.monotonic()
        found = max(0.0, now - self.begun - self.waited), self.held
        if self.watch is None:
            self.watch = threading.Thread(target=_watch, args=(weakref.ref(self),), daemon=True, name="pace")
            self.watch.start()
            found = 0.0, 0.0
        self.begun, self.waited, self.held = now, 0.0, 0.0
        return found

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Inside, this rank waits for others."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.waited += time.monotonic() - began

    def told(self, step: int, laps: Sequence[Sequence[float]]) -> str:
        """The slowest of the ranks' last laps in a sentence, where the others have waited for it; the same one once a minute at most."""
        lags = [lag(laps, rank) for rank in range(len(laps))]
        worst = max(range(len(laps)), key=lags.__getitem__)
        now = time.monotonic()
        if lags[worst] < LEAST or now - self.named.get(worst, -SILENT) < SILENT:
            return ""
        self.named[worst] = now
        stopped = f", of which it stood still for {laps[worst][1]:.1f}" if laps[worst][1] else ""
        share = min(1.0, lags[worst] / max(laps[worst]))
        return f"step {step}: rank {worst} is slow, {lags[worst]:.1f} s behind the others, {share:.0%} of its step{stopped}"


def lag(laps: Sequence[Sequence[float]], rank: int) -> float:
    """Seconds that a rank took longer than the middle one of the others, by its work or by what held it up; 0 where that is usual."""
    found = 0.0
    for column in (0, 1):
        others = sorted(lap[column] for i, lap in enumerate(laps) if i != rank)
        usual = others[len(others) // 2] if others else 0.0
        if laps[rank][column] > TIMES * usual:
            found = max(found, laps[rank][column] - usual)
    return found


def _watch(pace: weakref.ref[Pace]) -> None:
    """Wakes every BEAT while the pace is asked for; a look that comes much later means that the process stood still."""
    last = time.monotonic()
    while (one := pace()) is not None:
        now = time.monotonic()
        if now - last > 2 * BEAT:
            one.held += now - last - BEAT
        last = now
        del one
        time.sleep(BEAT)
