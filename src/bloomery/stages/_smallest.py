"""What a training process holds and takes beside its model: measured once on a machine, by a run so small that nothing else counts.

python -m bloomery.stages._smallest pretrain off      # stage, and whether blocks are compiled; prints JSON
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bloomery.core.speeds import Speeds

TEXT = "the quick brown fox jumps over the lazy dog and the small cat sleeps "
FACTS = ("bytes", "compiling", "seconds", "kernel bytes", "kernel seconds")
USUAL = {  # of torch 2.13 on a processor, by whether blocks are compiled
    False: {"bytes": 0.51e9, "compiling": 0.0, "seconds": 5.0, "kernel bytes": 6e5, "kernel seconds": 5e-4},
    True: {"bytes": 0.65e9, "compiling": 0.44e9, "seconds": 30.0, "kernel bytes": 6e5, "kernel seconds": 5e-4},
}
LAYERS, WIDTH, CONTEXT, VOCAB = 1, 16, 16, 300


def base(stage: str, compiled: bool, speeds: Speeds, usual: bool = False) -> dict[str, float]:
    """{"bytes", "compiling", "seconds"} of a process that does what `stage` does with almost nothing, and {"kernel bytes",
    "kernel seconds"} of a product of a new shape in bfloat16; RuntimeError where even that cannot be run."""
    known = f"base {stage} {'compiled' if compiled else 'eager'} {version()}"
    if any(f"{known} {name}" not in speeds.known for name in FACTS):
        if usual:
            return USUAL[compiled]
        for name, value in smallest(stage, compiled).items():
            speeds.of(f"{known} {name}", lambda value=value: value)
    return {name: speeds.known[f"{known} {name}"] for name in FACTS}


@functools.cache
def smallest(stage: str, compiled: bool) -> dict[str, float]:
    """Start that run, and read what it says."""
    command = [sys.executable, "-m", __name__, stage, "on" if compiled else "off"]
    cold = {**os.environ, "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}  # a new model is compiled anew
    done = subprocess.run(command, capture_output=True, text=True, env=cold)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise RuntimeError(f"the smallest run of {stage} failed, so that nothing can be forecast: {why}")
    return {name: float(value) for name, value in json.loads(done.stdout.splitlines()[-1]).items()}


def version() -> str:
    """Of the package that weighs most."""
    from importlib.metadata import version as version_of

    return f"torch {version_of('torch')}"


def tiny(stage: str, compiled: str, folder: Path) -> None:
    """Make the inputs, and run and check the stage as a step of a recipe is."""
    from bloomery.core import catalog
    from bloomery.core.executors import Local
    from bloomery.core.job import Job
    from bloomery.core.log import Log
    from bloomery.core.signals import Signals
    from bloomery.core.store import Artifact
    from bloomery.seams import Rng

    inputs = {name: Artifact("0" * 64, path, {"facts": {"vocab": VOCAB}}) for name, path in words(stage, folder).items()}
    knobs = {"context": CONTEXT, "batch": 4 * CONTEXT, "compile": compiled}
    if stage == "pretrain":
        knobs |= {"width": WIDTH, "layers": LAYERS, "heads": 1, "ffn": WIDTH, "tokens": 12 * CONTEXT, "evaluate_tokens": CONTEXT}
    else:
        knobs |= {"heldout": 0.5, "long": "cut"}
    entry = catalog.find("stage", stage, "the smallest run")
    resolved = {knob.name: knobs.get(knob.name, knob.default) for knob in entry.knobs.values() if not knob.artifact}
    made = catalog.build(entry, {**resolved, **inputs})
    for name in ("out", "work"):
        (folder / name).mkdir()
    job = Job(folder / "out", folder / "work", Rng((0, stage)), 0, Log(quiet=True), Local(), None, {}, Signals())
    made.run(job)
    made.check(job.out, job)


def words(stage: str, folder: Path) -> dict[str, Path]:
    """Inputs of a stage that hold next to nothing."""
    import numpy as np

    from bloomery.data.shards import write_shards
    from bloomery.data.tokenizer import learn

    known = learn([TEXT] * 20, VOCAB)
    if stage == "pretrain":
        known.save(folder)
        for part in ("train", "heldout"):
            ids = np.r_[known.bos, np.arange(CONTEXT // 2) + 40, known.eos]
            write_shards(folder / part, [({"id": f"{i}", "bytes": 9}, ids) for i in range(40)], VOCAB)
        return {"data": folder}
    from bloomery.nn.config import Config
    from bloomery.nn.model import Transformer
    from bloomery.nn.saving import save

    (folder / "model").mkdir()
    known.save(folder / "model")
    save(Transformer(Config(VOCAB, WIDTH, LAYERS, 1, 1, WIDTH, CONTEXT)), folder / "model")
    row = {"messages": [{"role": "user", "content": "the"}, {"role": "assistant", "content": "fox"}]}
    (folder / "talk.jsonl").write_text(f"{json.dumps(row)}\n" * 40)
    return {"model": folder / "model", "data": folder / "talk.jsonl"}


def main(stage: str, compiled: str) -> dict[str, Any]:
    """The peak of this process, what its children (compilers) held beyond that, the seconds from its beginning, what a kernel costs."""
    import time

    import psutil

    from bloomery.core.cost import Meter
    from bloomery.core.machine import has_bf16
    from bloomery.train.kernels import cost

    with tempfile.TemporaryDirectory() as scratch:
        meter = Meter(Path(scratch) / "spent.json")
        with meter:
            tiny(stage, compiled, Path(scratch))
    own = highest()
    found = {"bytes": own, "compiling": max(0, meter.peak - own), "seconds": time.time() - psutil.Process().create_time()}
    size, each = cost() if has_bf16() else (0.0, 0.0)
    return {**found, "kernel bytes": size, "kernel seconds": each}


def highest() -> int:
    """Bytes that this process has held at most; what `getrusage` tells would begin with those of the process that started this one."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import psutil

        return psutil.Process().memory_info().rss


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
