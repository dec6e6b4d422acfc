"""What contenders of `benchmarks/train.py` share: the job, the text, and turns of a few steps that the parent hands out over pipes.

Free of bloomery, so that a peer's own environment can import it. Shapes: S steps, B rows, T tokens of a row.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

IGNORED = -100  # target of padding in torch's cross-entropy


@dataclass(frozen=True)
class Job:
    """One contender's task; everything that must be equal for all is here."""

    folder: str  # Hugging Face folder of the weights to begin with
    text: str  # .npz: rows_SBT1, or ids and lengths of documents
    kind: str  # which variant of the contender
    rows: int  # B, or documents of a batch
    context: int  # T
    threads: int
    device: str  # "cpu" or "cuda"
    rate: float = 3e-4
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    decay: float = 0.1  # of matrices
    clip: float = 1.0  # norm of all gradients

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: str) -> Job:
        return cls(**json.loads(Path(path).read_text()))


def batches(job: Job) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(inputs, targets) of step after step, int64 (B, T): whole rows, or documents for ever, padded to the longest of their batch.

    For a compiled step they are padded to T: one shape, compiled once.
    """
    with np.load(job.text) as text:
        if "rows_SBT1" in text:
            for rows_BT1 in text["rows_SBT1"].astype(np.int64):
                yield np.ascontiguousarray(rows_BT1[:, :-1]), np.ascontiguousarray(rows_BT1[:, 1:])
            return
        ids, ends = text["ids"].astype(np.int64), np.cumsum(text["lengths"])
    while True:
        for first in range(0, len(ends) - job.rows + 1, job.rows):
            these = [ids[0 if i == 0 else ends[i - 1] : ends[i]] for i in range(first, first + job.rows)]
            yield padded(these, job.context if job.kind == "compile" else max(map(len, these)) - 1)


def padded(documents: list[np.ndarray], long: int) -> tuple[np.ndarray, np.ndarray]:
    """Documents under each other in rows of `long`; inputs are 0 and targets `IGNORED` behind their ends."""
    inputs, targets = np.zeros((len(documents), long), np.int64), np.full((len(documents), long), IGNORED, np.int64)
    for row, document in enumerate(documents):
        inputs[row, : len(document) - 1], targets[row, : len(document) - 1] = document[:-1], document[1:]
    return inputs, targets


class Turns:
    """The contender's end of the pipes. What it prints itself goes to the error stream; `prepared` are seconds of compiling before."""

    def __init__(self) -> None:
        self.out: TextIO = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self.prepared, self.wanted, self.began = 0.0, 0, (0.0, 0.0)
        self.seconds: list[tuple[float, float]] = []  # of the clock, and of processors
        self.losses: list[float] = []
        self.tokens: list[int] = []

    def next_step(self) -> None:
        """The step under way has ended; returns when another is wanted. Ends the process when the parent has had enough."""
        if any(self.began):
            self.seconds.append((time.perf_counter() - self.began[0], time.process_time() - self.began[1]))
        if len(self.seconds) >= self.wanted:
            self.tell()
            line = sys.stdin.readline()
            if not line:
                raise SystemExit(0)
            self.wanted = int(line)
            self.seconds, self.losses, self.tokens = [], [], []
        self.began = (time.perf_counter(), time.process_time())

    def tell(self) -> None:
        """What the turn gave. The first report, of no step, says that the contender is ready."""
        told = {"seconds": self.seconds, "losses": self.losses, "tokens": self.tokens, "memory": memory(), "prepared": self.prepared}
        print(json.dumps(told), file=self.out, flush=True)


def memory() -> int:
    """Most bytes that this process has held: of the accelerator where it uses one. `ru_maxrss` is never less than what its parent held."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def begin() -> tuple[Job, Turns]:
    """The job named on the command line, with torch's threads set."""
    import torch

    turns, job = Turns(), Job.read(sys.argv[1])
    torch.set_num_threads(job.threads)
    return job, turns
