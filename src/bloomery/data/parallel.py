"""Batches of rows, and compiled work on them by threads: numba's code runs outside the interpreter's lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

MOST = 1 << 28  # bytes of text taken together, however much memory there is: an Arrow array of strings ends at 2 GiB


def threaded(work: Callable[[Any], Any], items: Iterable[Any], workers: int) -> Iterator[Any]:
    """Results in the order of the items; at most two items a thread are taken ahead. One worker works in this thread."""
    if workers == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Any]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def batches(rows: np.ndarray, sizes: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """`rows` in order, in parts whose sizes add up to about `most`; a row that is larger may stand alone."""
    if not len(rows):
        return
    part = (np.cumsum(sizes, dtype=np.int64) - sizes) // max(1, most)
    borders = np.flatnonzero(np.diff(part)) + 1
    yield from np.split(rows, borders)
