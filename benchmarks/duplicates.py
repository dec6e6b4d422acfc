"""Near duplicates beside rensa, datasketch, text-dedup, datatrove and py-data-juicer: speed, memory, recall and precision.

    python benchmarks/duplicates.py [--quick] [--peers rensa,...] [--python NAME=PATH ...]   (once before: make peers-duplicates)

The text of the Python installation, one document in ten with a planted copy whose words were changed here and there. Every contestant
runs as a process of its own, in turn, with 1 and 2 workers. Recall: of the planted copies at Jaccard 0.8 or more, those of which not
both stay. Precision: of the documents removed, those with another at 0.8 or more; both counted here on whole sets, without bloomery.
Prints one JSON line per contest and a table of all that was measured to stderr; where others use the machine, processor time is the
figure to look at with one worker.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil

PEERS = ("rensa", "datasketch", "text-dedup", "datatrove", "py-data-juicer")
ALONE = ("rensa", "datasketch")  # without workers of their own
ROOT = Path(__file__).parents[1]
THRESHOLD = 0.8
LIMIT = 300  # seconds that one run may take, its start included


def corpus(size: int) -> tuple[list[str], list[tuple[int, int]]]:
    """About `size` bytes of texts in random order, and the planted pairs (place of the original, place of the copy)."""
    draw, texts, planted, total = random.Random(0), [], [], 0
    files = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    draw.shuffle(files)
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        texts.append(text)
        total += len(text)
        if len(texts) % 10 == 0 and len(pieces := re.split(r"(\w+)", text)) > 400:
            share = draw.choice([0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08])
            for k in range(1, len(pieces), 2):
                if draw.random() < share:
                    pieces[k] = f"changed{draw.randrange(10**6)}"
            planted.append((len(texts) - 1, len(texts)))
            texts.append("".join(pieces))
            total += len(texts[-1])
        if total > size:
            break
    order = list(range(len(texts)))
    draw.shuffle(order)
    place = {old: new for new, old in enumerate(order)}
    return [texts[old] for old in order], [(place[a], place[b]) for a, b in planted]


def sets_of(texts: list[str]) -> list[np.ndarray]:
    found = []
    for text in texts:
        words = re.findall(r"\w+", text.lower())
        found.append(np.unique(np.array([hash(tuple(words[i : i + 5])) for i in range(len(words) - 4)], np.int64)))
    return found


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / max(1, len(a) + len(b) - shared)


class Truth:
    """What is right to remove, decided on whole sets."""

    def __init__(self, texts: list[str], planted: list[tuple[int, int]]) -> None:
        self.sets, self.known, self.texts, self.copies = sets_of(texts), {}, texts, Counter(texts)
        self.planted = [(a, b) for a, b in planted if jaccard(self.sets[a], self.sets[b]) >= THRESHOLD]
        owner = np.repeat(np.arange(len(texts)), [len(one) for one in self.sets])
        values = np.concatenate(self.sets)
        order = np.argsort(values, kind="stable")
        self.values, self.holders = values[order], owner[order]

    def near(self, number: int) -> bool:
        """Whether any other document is at the threshold, or the same where it has fewer than five words."""
        mine = self.sets[number]
        if not len(mine):
            return self.copies[self.texts[number]] > 1
        if number not in self.known:
            low, high = (np.searchsorted(self.values, mine, side) for side in ("left", "right"))
            shared = np.bincount(np.concatenate([self.holders[a:b] for a, b in zip(low, high, strict=True)]), minlength=len(self.sets))
            likely = np.flatnonzero(shared >= THRESHOLD * len(mine))
            self.known[number] = any(jaccard(mine, self.sets[other]) >= THRESHOLD for other in likely if other != number)
        return self.known[number]

    def judge(self, removed: list[int]) -> tuple[float, float]:
        """Recall and precision."""
        gone = set(removed)
        hit = sum(a in gone or b in gone for a, b in self.planted)
        return hit / len(self.planted), sum(map(self.near, gone)) / max(1, len(gone))


def write(folder: Path, texts: list[str], pair: tuple[int, int]) -> Path:
    """The texts as one Parquet file, as two parts beside it, and for rehearsals a few, with a pair that is near."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for place, some in ((folder, texts), (folder / "few", [*texts[:60], *(texts[k] for k in pair)])):
        (place / "parts").mkdir(parents=True)
        table = pa.table({"id": pa.array(range(len(some)), pa.int64()), "text": some})
        pq.write_table(table, place / "texts.parquet")
        named = table.set_column(0, "id", table.column("id").cast(pa.string()))
        for k, part in enumerate((named.slice(0, len(some) // 2), named.slice(len(some) // 2))):
            pq.write_table(part, place / "parts" / f"{k}.parquet")
    (folder / "few" / "few").symlink_to(folder / "few")
    return folder / "texts.parquet"


def run(name: str, python: str, file: Path, workers: int) -> dict:
    """One contestant as a process; the largest memory that it and its children held together, in MB."""
    peak, over = [0], threading.Event()
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src") if name == "bloomery" else "",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    with tempfile.TemporaryDirectory() as place:
        command = [python, str(ROOT / "benchmarks/peers/duplicates.py"), name, str(file), str(workers), place]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=place)

        def watch() -> None:
            while not over.wait(0.05):
                held = 0
                try:
                    mine = psutil.Process(process.pid)
                    for one in (mine, *mine.children(recursive=True)):
                        held += one.memory_info().rss
                except psutil.Error:
                    continue
                peak[0] = max(peak[0], held)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            out, wrong = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            for one in (*psutil.Process(process.pid).children(recursive=True), process):
                one.kill()
            out, wrong = process.communicate()
            wrong += f"\nstopped after {LIMIT} s"
        over.set()
        watcher.join()
    if process.returncode:
        raise RuntimeError(wrong.strip().splitlines()[-1] if wrong.strip() else f"exit code {process.returncode}")
    return {**json.loads(out.strip().splitlines()[-1]), "peak": peak[0] / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 MB, one round, rensa and datasketch only; within a minute")
    parser.add_argument("--size", type=float, default=50, help="MB of text")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default="", help="comma-separated: " + ", ".join(PEERS))
    parser.add_argument("--python", action="append", default=[], help="NAME=PATH of the Python that has a peer")
    given = parser.parse_args()
    pythons = dict(one.split("=", 1) for one in given.python)
    peers = [peer for peer in given.peers.split(",") if peer] or list(PEERS[:2] if given.quick else PEERS)
    if unknown := [peer for peer in peers if peer not in PEERS]:
        parser.error(f"unknown peer {unknown[0]}; known: {', '.join(PEERS)}")
    texts, planted = corpus(int(1e6 * (4 if given.quick else given.size)))
    size, truth = sum(len(text.encode()) for text in texts) / 1e6, Truth(texts, planted)
    print(f"{len(texts)} texts, {size:.1f} MB, {len(truth.planted)} planted copies at {THRESHOLD} or more", file=sys.stderr)
    entries = [(name, workers) for name in ("bloomery", *peers) for workers in ((1,) if name in ALONE else (1, 2))]
    results: dict[tuple[str, int], list[dict]] = {entry: [] for entry in entries}
    with tempfile.TemporaryDirectory() as folder:
        file = write(Path(folder), texts, truth.planted[0])
        for _ in range(1 if given.quick else given.rounds):
            for name, workers in list(results):
                python = pythons.get(name, sys.executable if name == "bloomery" else str(ROOT / ".peers/duplicates/bin/python"))
                try:
                    began = time.perf_counter()
                    results[name, workers].append(run(name, python, file, workers))
                    print(f"{name}, {workers}: {time.perf_counter() - began:.0f} s with its start", file=sys.stderr)
                except (RuntimeError, OSError) as wrong:
                    results.pop((name, workers))
                    print(f"{name} with {workers} skipped: {wrong}", file=sys.stderr)
    speed = {entry: size / statistics.median(one["seconds"] for one in found) for entry, found in results.items() if found}
    busy = {entry: size / statistics.median(one["busy"] for one in found) for entry, found in results.items() if found}
    for (name, workers), value in speed.items():
        recall, precision = truth.judge(results[name, workers][0]["removed"])
        peak, count = max(one["peak"] for one in results[name, workers]), len(results[name, workers][0]["removed"])
        told = f"{value:7.1f} MB/s {busy[name, workers]:7.1f} MB per processor second {peak:6.0f} MB"
        print(f"{name:15} {workers} {told}  recall {recall:.3f} precision {precision:.3f} removed {count}", file=sys.stderr)
        if name != "bloomery":
            mine = speed["bloomery", workers]
            line = {
                "contest": f"near-duplicates, {workers} worker{'s' * (workers > 1)}",
                "unit": "MB/s",
                "ours": round(mine, 1),
                "peer": name,
            }
            alike = {"ratio_by_processor_time": round(busy["bloomery", workers] / busy[name, workers], 2)}
            print(json.dumps({**line, "peer_value": round(value, 1), "ratio": round(mine / value, 2), **alike}), flush=True)


if __name__ == "__main__":
    main()
