"""What a step really took: wall and processor seconds, and the peak memory of this process and its children."""

from __future__ import annotations

import threading
import time
from types import TracebackType


class Meter:
    """A `with` block's cost; memory is sampled four times a second, so that short peaks between samples may be missed."""

    def __init__(self) -> None:
        self.peak = 0
        self.ended = threading.Event()

    def __enter__(self) -> Meter:
        import psutil

        self.process = psutil.Process()
        self.began, self.cpu = time.perf_counter(), self.cpu_seconds()
        self.thread = threading.Thread(target=self.sample, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.seconds, self.cpu = time.perf_counter() - self.began, self.cpu_seconds() - self.cpu
        self.ended.set()
        self.thread.join()

    def cpu_seconds(self) -> float:
        times = self.process.cpu_times()
        return times.user + times.system + times.children_user + times.children_system

    def sample(self) -> None:
        import psutil

        while True:
            try:
                family = [self.process, *self.process.children(recursive=True)]
                self.peak = max(self.peak, sum(one.memory_info().rss for one in family if one.is_running()))
            except psutil.Error:
                pass  # a child ended between listing and asking
            if self.ended.wait(0.25):
                return
