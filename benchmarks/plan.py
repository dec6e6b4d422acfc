"""What `plan` says of memory and time beside what runs take: every case in a process of its own.

    python benchmarks/plan.py [--quick] [--cases dense-1m-fp32,...] [--threads 1]

One JSON line per case: {"case", "memory_forecast", "memory", "memory_ratio", "step_forecast", "step", "step_ratio"}, bytes and seconds;
then one with the medians and the shares of cases within 10% (memory) and 25% (time). Memory is the highest resident size of the process
as the kernel counts it, or with compiled blocks that of the process and its children as the meter of a step samples it. A step's time is
the median over steps of the processor time between two of them divided by the threads, because other processes do not lengthen that.
What operations take is measured anew for each case, right before its run: the machine of both is the same.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

SMALL = {"width": 128, "layers": 4, "heads": 4, "ffn": 384}
LARGE = {"width": 256, "layers": 6, "heads": 4, "ffn": 768}
RUN = {"compile": "off", "evaluate_tokens": 1024, "evaluate_every": 1000, "precision": "float32"}
SHORT = {"context": 128, "batch": 1024}
BF16 = {"precision": "bfloat16"}
TUNED = {"context": 128, "batch": 1024, "compile": "off", "epochs": 1.0, "measured": 8, "evaluate_every": 1000, "precision": "float32"}
STEPS, UNEVEN = 10, 24  # the latter where experts make new shapes, for each of which a kernel is compiled
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "dense-1m-fp32": ("pretrain", {**SMALL, **RUN, **SHORT}),
    "dense-1m-fp32-4x512": ("pretrain", {**SMALL, **RUN, "context": 512, "batch": 2048}),
    "dense-1m-bf16": ("pretrain", {**SMALL, **RUN, **SHORT, **BF16}),
    "dense-1m-bf16-16x256": ("pretrain", {**SMALL, **RUN, "context": 256, "batch": 4096, **BF16}),
    "dense-7m-fp32": ("pretrain", {**LARGE, **RUN, **SHORT}),
    "dense-7m-bf16": ("pretrain", {**LARGE, **RUN, **SHORT, **BF16}),
    "dense-7m-bf16-8x512": ("pretrain", {**LARGE, **RUN, "context": 512, "batch": 4096, **BF16}),
    "dense-7m-bf16-micro": ("pretrain", {**LARGE, **RUN, "context": 256, "batch": 4096, "micro": 2, **BF16}),
    "dense-7m-fp32-lion": ("pretrain", {**LARGE, **RUN, **SHORT, "optimizer": "lion"}),
    "dense-7m-bf16-muon": ("pretrain", {**LARGE, **RUN, **SHORT, **BF16, "optimizer": "muon"}),
    "moe-fp32": ("pretrain", {**SMALL, **RUN, **SHORT, "modules": [{"moe": {"experts": 8, "top": 2}}]}),
    "moe-bf16-8x256": ("pretrain", {**SMALL, **RUN, "context": 256, "batch": 2048, "modules": ["moe"], **BF16}),
    "recompute-block-fp32-8x256": (
        "pretrain",
        {**LARGE, **RUN, "context": 256, "batch": 2048, "saved": {"recompute": {"sites": ["block"]}}},
    ),
    "recompute-mlp-bf16-8x256": (
        "pretrain",
        {**LARGE, **RUN, "context": 256, "batch": 2048, **BF16, "saved": {"recompute": {"sites": ["mlp"]}}},
    ),
    "compiled-7m-bf16-8x256": ("pretrain", {**LARGE, **RUN, "context": 256, "batch": 2048, **BF16, "compile": "on"}),
    "tune-fp32": ("tune", TUNED),
    "tune-lora-fp32": ("tune", {**TUNED, "adapter": {"lora": {"rank": 16}}}),
    "tune-lora-bf16": ("tune", {**TUNED, **BF16, "adapter": {"lora": {"rank": 16}}, "batch": 2048}),
}
QUICK = ("dense-1m-fp32", "moe-fp32", "recompute-block-fp32-8x256", "tune-lora-fp32")
VOCAB = 4096


def made(folder: Path) -> dict[str, Path]:
    """Inputs of both stages: shards of made-up tokens, a model, conversations of made-up words."""
    import numpy as np

    from bloomery.data.shards import write_shards
    from bloomery.data.tokenizer import learn
    from bloomery.nn.config import Config
    from bloomery.nn.model import Transformer
    from bloomery.nn.saving import save

    tokens, model = folder / "tokens", folder / "model"
    draw = np.random.default_rng(0)
    words = ["".join(chr(97 + letter) for letter in draw.integers(0, 26, draw.integers(2, 9))) for _ in range(20000)]
    known = learn([" ".join(words[i] for i in draw.integers(0, 20000, 400)) for _ in range(200)], VOCAB)
    for one in (tokens, model):
        one.mkdir()
        known.save(one)
    for part, count in (("train", 200), ("heldout", 20)):
        rows = [({"id": f"{part}{i}", "bytes": 999}, np.r_[known.bos, draw.integers(10, VOCAB, 498), known.eos]) for i in range(count)]
        write_shards(tokens / part, rows, VOCAB)
    shape = {name: LARGE[name] for name in ("width", "layers", "heads", "ffn")}
    save(Transformer(Config(vocab=VOCAB, kv_heads=LARGE["heads"], context=512, **shape)), model)
    talk = [[" ".join(words[i] for i in draw.integers(0, 20000, 12)) for _ in range(2)] for _ in range(200)]
    lines = [{"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}]} for a, b in talk]
    (folder / "talk.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"tokens": tokens, "model": model, "talk": folder / "talk.jsonl"}


def stage_of(name: str, folder: Path) -> tuple[Any, dict[str, Any]]:
    """The built stage of a case, and what is known of its inputs."""
    from bloomery.core import catalog
    from bloomery.core.job import Forecast
    from bloomery.core.store import Artifact

    stage, knobs = CASES[name]
    entry = catalog.find("stage", stage, name)
    if stage == "pretrain":
        facts = {"data": {"vocab": VOCAB, "train_tokens": 100_000}}
        inputs, knobs = {"data": folder / "tokens"}, {**knobs, "tokens": (UNEVEN if "moe" in name else STEPS) * knobs["batch"]}
    else:
        size = (folder / "talk.jsonl").stat().st_size
        facts = {"model": {}, "data": {"bytes": size}}
        inputs = {"model": folder / "model", "data": folder / "talk.jsonl"}
    artifacts = {key: Artifact("0" * 64, path, {"facts": facts[key], "stage": "outside"}) for key, path in inputs.items()}
    resolved = {knob.name: knobs.get(knob.name, knob.default) for knob in entry.knobs.values() if not knob.artifact}
    built = catalog.build(entry, {**resolved, **artifacts}, name)
    return built, {key: Forecast(facts=value) for key, value in facts.items()}


def forecast(name: str, folder: Path) -> dict[str, Any]:
    """What is said beforehand."""
    from bloomery.core.machine import Machine, remembered

    place = folder / "machine.json"
    machine: Machine = remembered(place)
    speeds = machine.speeds()  # processes are the same all along, operations are timed anew
    speeds.known, speeds.new = {key: value for key, value in speeds.known.items() if key.startswith("base ")}, True
    speeds.write()
    built, inputs = stage_of(name, folder)
    said = built.forecast(inputs, replace(machine, effort="tried"))
    return {"memory": said.memory, "step": said.facts["step_seconds"], "terms": said.facts["memory_terms"]}


def measure(name: str, folder: Path) -> dict[str, Any]:
    """What a run takes."""
    from bloomery.core.cost import Meter
    from bloomery.core.executors import Local
    from bloomery.core.job import Job
    from bloomery.core.log import Log
    from bloomery.core.machine import threads
    from bloomery.core.signals import Signals
    from bloomery.seams import Rng
    from bloomery.stages._smallest import highest

    ticks: list[float] = []

    class Counted(Signals):
        """Notes the processor time whenever the loop asks, which it does after every step."""

        @property
        def stopping(self) -> bool:
            ticks.append(time.process_time())
            return False

        @stopping.setter
        def stopping(self, wish: bool) -> None:
            pass

    with tempfile.TemporaryDirectory() as scratch:
        out, work = Path(scratch) / "out", Path(scratch) / "work"
        out.mkdir(), work.mkdir()
        job = Job(out, work, Rng((0, name)), 0, Log(quiet=True), Local(), None, {}, Counted())
        built, _ = stage_of(name, folder)
        with Meter(Path(scratch) / "spent.json") as meter:
            built.run(job)
            built.check(out, job)
    steps = [after - before for before, after in pairwise(ticks[1:])]
    later = steps[len(steps) // 2 :]
    return {"memory": max(meter.peak, highest()), "step": statistics.median(later) / threads(), "steps": len(later)}


def child(what: str, name: str, folder: Path, threads: int) -> dict[str, Any]:
    """One of the two in a process of its own."""
    told = {**os.environ, "OMP_NUM_THREADS": str(threads), "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    done = subprocess.run([sys.executable, __file__, f"--{what}", name, "--folder", str(folder)], env=told, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cases", default="")
    parser.add_argument("--threads", type=int, default=1)
    for name in ("--forecast", "--measure"):
        parser.add_argument(name, default="", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.forecast or given.measure:
        work = forecast if given.forecast else measure
        print(json.dumps(work(given.forecast or given.measure, given.folder)))
        return
    chosen = [one for one in given.cases.split(",") if one] or (list(QUICK) if given.quick else list(CASES))
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        made(folder)
        for name in chosen:
            said, found = (child(what, name, folder, given.threads) for what in ("forecast", "measure"))
            row = {"case": name}
            for what in ("memory", "step"):
                row |= {f"{what}_forecast": said[what], what: found[what], f"{what}_ratio": round(said[what] / found[what], 3)}
            rows.append(row)
            print(json.dumps(row), flush=True)
    print(json.dumps(summary(rows)))


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the ratios, and the share of cases within bounds."""
    told: dict[str, Any] = {"cases": len(rows)}
    for what, bound in (("memory", 0.10), ("step", 0.25)):
        ratios = [row[f"{what}_ratio"] for row in rows]
        told |= {f"{what}_median": statistics.median(ratios), f"{what}_within": sum(abs(ratio - 1) <= bound for ratio in ratios)}
    return told


if __name__ == "__main__":
    main()
