"""What contenders of `benchmarks/compress.py` share: the job, and how a result is told. Free of bloomery, for peers' environments."""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from turns import memory

BITS, GROUP, DAMP = 4, 128, 0.01


@dataclass(frozen=True)
class Job:
    """One contender's task; everything that must be equal for all is here."""

    folder: str  # Hugging Face folder of the source, with a tokenizer
    text: str  # .npz: rows, int64 (sequences, tokens)
    out: str  # folder for `dense.safetensors`, Hugging Face names
    kind: str  # which variant of the contender
    threads: int
    start: bool = False  # import and load, and stop there

    def told(self, **more: Any) -> Job:
        return replace(self, **more)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @property
    def rows(self) -> np.ndarray:
        with np.load(self.text) as text:
            return text["rows"]


def begin() -> Job:
    """The job that the command line names."""
    import torch

    job = Job(**json.loads(Path(sys.argv[1]).read_text()))
    torch.set_num_threads(job.threads)
    return job


class Clock:
    """Seconds since it was made: of the wall, and of processors, all threads and finished children of this process together."""

    def __init__(self) -> None:
        self.wall, self.processor = time.perf_counter(), processor()

    def spent(self) -> dict[str, float]:
        return {"seconds": time.perf_counter() - self.wall, "processor": processor() - self.processor}


def processor() -> float:
    """Processor seconds so far."""
    return sum(one.ru_utime + one.ru_stime for one in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def tell(spent: dict[str, float]) -> None:
    """The last line of output."""
    print(json.dumps({**spent, "memory": memory()}), flush=True)
