"""What a step really took: wall and processor seconds, and the peak memory of this process and its children."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from pathlib import Path
from types import TracebackType

from bloomery.core.machine import resident


class Meter:
    """The cost of a `with` block and of earlier attempts at the same work, which `path` remembers even of a killed one.

    Memory is sampled four times a second, so that short peaks between samples may be missed.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.ended = path, threading.Event()
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            self.attempts, self.peak, self.earlier = before["attempts"] + 1, before["peak"], (before["seconds"], before["cpu"])
        except (OSError, ValueError, KeyError):
            self.attempts, self.peak, self.earlier = 1, 0, (0.0, 0.0)

    def so_far(self) -> tuple[float, float]:
        """Wall and processor seconds, earlier attempts included."""
        return self.earlier[0] + time.perf_counter() - self.began, self.earlier[1] + self.cpu_seconds() - self.cpu

    def __enter__(self) -> Meter:
        import psutil

        self.process = psutil.Process()
        self.began, self.cpu = time.perf_counter(), self.cpu_seconds()
        self.thread = threading.Thread(target=self.sample, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.ended.set()
        self.thread.join()
        self.seconds, self.cpu = self.so_far()

    def cpu_seconds(self) -> float:
        times = self.process.cpu_times()
        return times.user + times.system + times.children_user + times.children_system

    def sample(self) -> None:
        while True:
            self.peak = max(self.peak, resident())
            self.remember()
            if self.ended.wait(0.25):
                return

    def remember(self) -> None:
        seconds, cpu = self.so_far()
        aside = self.path.with_suffix(".tmp")
        with contextlib.suppress(OSError):  # a full disk stops the work itself, with its own sentence
            aside.write_text(json.dumps({"attempts": self.attempts, "seconds": seconds, "cpu": cpu, "peak": self.peak}), encoding="utf-8")
            aside.replace(self.path)
