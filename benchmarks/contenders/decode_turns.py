"""What contenders of `benchmarks/decode.py` share: the job, and turns that the parent hands out over pipes."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

Ids = list[list[int]]
OUT: list[TextIO] = []  # where the parent listens, once a contender has begun


@dataclass(frozen=True)
class Job:
    """One contender's task; everything that must be equal for all is here."""

    folder: str  # `hf`, a Hugging Face folder, and `TYPE.gguf`
    kind: str  # which variant of the contender
    rows: int  # prompts at a time, at most
    prompt: int
    new: int
    vocab: int
    threads: int

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    def prompts(self, rows: int, turn: int) -> Ids:
        """Random tokens, others in every turn, so that nothing can be remembered."""
        return np.random.default_rng((turn, rows)).integers(0, self.vocab, (rows, self.prompt)).tolist()


def serve(job: Job, write: Callable[[Ids, int], Ids], prepared: float, **facts: float) -> None:
    """Answers turns, lines of {"rows", "turn"}: seconds to the first token of all rows and of all tokens, and the tokens themselves.

    `write` gives so many greedy tokens after each prompt. The first report says that the contender is ready; `prepared` are seconds of
    compiling until then.
    """
    print(json.dumps({"prepared": prepared, **facts}), file=OUT[0], flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        prompts = job.prompts(asked["rows"], asked["turn"])
        began = time.perf_counter()
        write(prompts, 1)
        first = time.perf_counter() - began
        began = time.perf_counter()
        ids = write(prompts, job.new)
        told = {"first": first, "all": time.perf_counter() - began, "memory": memory(), "ids": ids}
        print(json.dumps(told), file=OUT[0], flush=True)


def memory() -> int:
    """Bytes that this process holds."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def begin() -> Job:
    """The job named on the command line; what is printed from now on goes to the error stream, for what libraries say is no answer."""
    OUT.append(os.fdopen(os.dup(1), "w"))
    os.dup2(2, 1)
    return Job(**json.loads(Path(sys.argv[1]).read_text()))
