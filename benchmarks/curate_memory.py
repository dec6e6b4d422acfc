"""The memory that a whole run of curate takes, reading included, on input ten times larger than its `memory`.

    python benchmarks/curate_memory.py [--quick] [--memory 600MB] [--times 10] [--select dsir,preselect] [--folder /tmp]

JSON lines of which one document in ten is a near copy of the one before and one in 25 has a notice of 60 words, with `substring: 50` and an
evaluation item, in a new store. With `--select` these selections take half of the text instead, one document in 20 being the target, each
in a run of its own that finds what the first one measured. Prints one JSON line a run: the largest resident memory of all processes
together, shared pages counted for each, sampled every 0.03 s, beside the cap; a ratio above 1 means that the cap was kept.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import yaml

from bloomery.data.sizes import parse_size

FILE = 50_000_000  # bytes of a file of JSON lines
EVERY = 0.03  # seconds between samples


SELECT = {
    "random": {},
    "dsir": {},
    "preselect": {"column": "length.words"},
    "metaclip": {"entries": ["wa", "wb", "w1f", "w2e3"]},
}


def write(folder: Path, size: int) -> int:
    """Files of about `size` bytes; returns how many documents they hold."""
    gen = np.random.default_rng(0)
    vocabulary = np.array([f"w{number:x}" for number in gen.integers(0, 1 << 28, 100_000)])
    notice = " ".join(vocabulary[:60].tolist())
    last, written, number, documents = np.zeros(1, vocabulary.dtype), 0, 0, 0
    while written < size:
        held = 0
        with open(folder / f"{number:05d}.jsonl", "w", encoding="utf-8") as file:
            while held < min(FILE, size - written):
                if documents % 10 == 9:
                    words = np.where(gen.random(len(last)) < 0.01, vocabulary[gen.integers(0, len(vocabulary), len(last))], last)
                else:
                    words = vocabulary[gen.integers(0, len(vocabulary), gen.integers(300, 900))]
                text = " ".join(words.tolist()) + (f"\n{notice}" if documents % 25 == 24 else "")
                row = {"text": text, "package": f"p{documents // 20}", "domain": "target" if documents % 20 == 7 else "pool"}
                held += file.write(json.dumps(row) + "\n")
                last, documents = words, documents + 1
        written, number = written + held, number + 1
    return documents


def resident(process: psutil.Process) -> int:
    """Bytes of a process and of all that it has begun."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_info().rss
        except psutil.Error:
            continue  # it has just ended
    return total


def last(log: Path) -> str:
    """The newest whole line of a log."""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - 2000))
        return ("\n" + file.read().decode("utf-8", "replace")).split("\n")[-2]


def measured(folder: Path, memory: int, knobs: dict) -> tuple[int, str, float]:
    """Highest resident memory of a run in bytes, what it had said last by then, and its seconds. CalledProcessError where it fails."""
    source = {"from": str(folder / "in" / "*.jsonl"), "package": "package", "domain": "domain"}
    about = {"signals": ["length"], "heldout": 0.02, "memory": f"{memory // 10**6}MB"}
    step = {"stage": "curate", "sources": [source], **about, **knobs}
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"name": "memory", "seed": 0, "steps": {"corpus": step}}), encoding="utf-8")
    command = [sys.executable, "-m", "bloomery", "run", str(folder / "recipe.yaml"), "--store", str(folder / "store")]
    begin, highest, doing = time.perf_counter(), 0, ""
    with open(folder / "log", "wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log)
        while running.poll() is None:
            try:
                held = resident(psutil.Process(running.pid))
            except psutil.NoSuchProcess:
                break
            if held > highest:
                highest, doing = held, last(folder / "log")
            time.sleep(EVERY)
    if running.wait():
        sys.exit((folder / "log").read_text(encoding="utf-8", errors="replace")[-2000:])
    return highest, doing, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="input of a tenth of the memory")
    parser.add_argument("--memory", default="600MB")
    parser.add_argument("--times", type=float, default=10.0, help="bytes of input for one of memory")
    parser.add_argument("--select", default="", help="comma-separated: " + ", ".join(SELECT))
    parser.add_argument("--folder", default=None, help="where input and store lie meanwhile; four times the input is needed")
    given = parser.parse_args()
    memory, chosen = parse_size(given.memory, "memory"), [one for one in given.select.split(",") if one]
    if strange := [one for one in chosen if one not in SELECT]:
        parser.error(f"unknown selection {strange[0]}; known: {', '.join(SELECT)}")
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        (folder / "in").mkdir()
        documents = write(folder / "in", int((0.1 if given.quick else given.times) * memory))
        size = sum(file.stat().st_size for file in (folder / "in").iterdir())
        (folder / "exam.jsonl").write_text(json.dumps({"text": " ".join(f"question{k}" for k in range(30))}) + "\n", encoding="utf-8")
        runs = {f"-{one}": {"select": {one: SELECT[one]}, "budget": f"{size // 2}B"} for one in chosen}
        for name, knobs in (runs or {"": {"substring": 50, "decontaminate": [str(folder / "exam.jsonl")]}}).items():
            peak, doing, seconds = measured(folder, memory, knobs)
            line = {"contest": f"curate-memory{name}", "unit": "MB", "ours": round(peak / 1e6, 1)}
            line |= {"peer": "memory", "peer_value": memory / 1e6, "ratio": round(memory / max(1, peak), 2), "input": round(size / 1e6, 1)}
            print(json.dumps(line | {"documents": documents, "seconds": round(seconds, 1), "after": doing}), flush=True)


if __name__ == "__main__":
    main()
