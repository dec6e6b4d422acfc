"""Filtering a corpus beside its peers: each peer's own filter set, rebuilt from signals and `keep` in recipes/filters.

    make peers-corpus && python benchmarks/corpus.py [--quick] [--size 16MB] [--peers datatrove,data-juicer] [--rounds 3] [--nasty]
    python benchmarks/corpus.py --costs [--size 4MB]                # every signal, edit and selection alone: the tables of docs/signals.md

The text of the Python installation (or, with --nasty, odd text made here), the same documents, in turn, with one and with two workers,
whole documents in memory before the clock starts. Prints a table: MB/s of UTF-8; the same for each second of a core's time, which a busy
machine changes less; the workers' peak memory together; the share of documents with the same verdict. And one JSON line per contest:
{"contest", "unit", "ours", "peer", "peer_value", "ratio"}.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from bloomery.data import sources
from bloomery.data.documents import Broken
from bloomery.data.sizes import parse_size

ROOT = Path(__file__).parents[1]
WORKER = Path(__file__).parent / "peers" / "filter_worker.py"
PEERS = ("datatrove", "data-juicer")
WORDS = re.split(
    r"\s+",
    """the be to of and that have with in is it for on was people time year way day world school state family student group country
problem hand part place case week company system program question work government number night point home water Mr. Dr. U.S. e.g. don't
I'm he'll cannot gonna let's 10km 5kg 3pm 50% $5 1,000 3.14 1-2 a/b and/or foo.bar Foo.Bar http://x.org user@mail.com 8.8.8.8/x x=1
self.foo() f(x): {a:b} [1] [edit] #tag ... … -- — ~ a--b 20°C %s => <a> javascript lorem ipsum privacy policy . ! ? end. • - `` don’t
“q” naïve Straße ΣΊΣΥΦΟΣ İstanbul Жизнь 日本語、テスト。 中文字符 한국어 हिन्दी العربية 😀 👩‍👩‍👧 :) :-( ): <3 ^_^""",
)
SPACES = [" "] * 14 + ["\n"] * 3 + ["\n\n", "\n\n\n", "  ", "\t", "\r\n", "\u00a0", "\u3000", "\x0b", "\x85", "\u2028", " \n \n "]
ENDS = [".", ".", ".", "!", "?", '."', "...", "…", ",", ":", " [3].", ""]


def nasty(size: int) -> list[str]:
    """Prose and noise of every script, repeated lines, odd white space: made from a fixed seed."""
    draw = random.Random(0)
    texts = ["", " ", "\n\n", "a", "...", "x " * 60, "日本語。" * 80, ".\n" * 30, "- a\n" * 40, "• x…\n" * 40, "the of and to\n" * 40]
    while sum(map(len, texts)) < size:
        words = draw.sample(WORDS, draw.choice([10, 40, len(WORDS)]))
        if draw.random() < 0.5:
            texts.append("".join(draw.choice(words) + draw.choice(SPACES) for _ in range(draw.choice([3, 30, 300]))))
        else:
            lines = [
                " ".join(draw.choices(words, k=draw.randint(2, 18))).capitalize() + draw.choice(ENDS) for _ in range(draw.randint(5, 60))
            ]
            lines += draw.choices(lines, k=draw.choice([0, 0, 1, 5]))
            texts.append("".join(line + draw.choice(["\n", "\n", "\n\n", " "]) for line in lines))
    return texts


def installation(size: str) -> list[str]:
    opened = sources.open_sources([{"from": "python://", "size": size, "share": 0.2}])
    return [doc.text for task in sources.tasks(opened, 10_000_000) for doc in sources.read(task) if not isinstance(doc, Broken)]


def run(python: str, name: str, parts: list[Path]) -> tuple[float, float, int, list[list[str]]]:
    """Seconds from the starting shot until the last is done, seconds of cores, bytes of peak memory together, verdicts in order."""
    workers = [
        subprocess.Popen([python, str(WORKER), name, str(part)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for part in parts
    ]
    for worker in workers:
        while (line := worker.stdout.readline()) and line.strip() != "ready":
            pass
        if not line:
            raise RuntimeError(f"{name} ended before its work")
    began = time.perf_counter()
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    told = []
    for worker in workers:
        line = worker.stdout.readline()
        while line and not line.startswith('{"seconds"'):
            line = worker.stdout.readline()
        told.append(json.loads(line))
    seconds = time.perf_counter() - began
    for worker in workers:
        worker.communicate()
    found: list[list[str]] = [[]] * sum(len(one["verdicts"]) for one in told)
    for k, one in enumerate(told):
        found[k :: len(told)] = one["verdicts"]
    return seconds, sum(one["cpu"] for one in told), sum(one["peak"] for one in told), found


def split(texts: list[str], folder: Path, workers: int) -> list[Path]:
    parts = [folder / f"{workers}-{k}.jsonl" for k in range(workers)]
    for k, part in enumerate(parts):
        part.write_text("".join(json.dumps(text) + "\n" for text in texts[k::workers]), encoding="utf-8")
    return parts


def same(peer: str, ours: list[list[str]], theirs: list[list[str]]) -> list[tuple[str, float, Counter]]:
    """For each set, the share of documents with the same verdict, and the pairs of reasons where they differ."""
    groups = {"datatrove": {"gopher": (0, [0, 1]), "c4": (1, [2]), "fineweb": (2, [3])}, "data-juicer": {"data-juicer": (0, [0])}}[peer]
    found = []
    for name, (mine, columns) in groups.items():
        pairs = [(row[mine], next((other[k] for k in columns if other[k]), "")) for row, other in zip(ours, theirs, strict=True)]
        differ = Counter(pair for pair in pairs if bool(pair[0]) != bool(pair[1]))
        found.append((name, 1 - sum(differ.values()) / len(pairs), differ))
    return found


def contest(peer: str, python: str, texts: list[str], rounds: int) -> None:
    size = sum(len(text.encode("utf-8", "replace")) for text in texts) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        for workers in (1, 2):
            parts = split(texts, Path(folder), workers)
            seconds: dict[str, list[float]] = {"bloomery": [], peer: []}
            cores: dict[str, list[float]] = {"bloomery": [], peer: []}
            for _ in range(rounds):
                *mine, ours = run(sys.executable, f"bloomery:{peer}", parts)
                *its, theirs = run(python, peer, parts)
                for name, one in (("bloomery", mine), (peer, its)):
                    seconds[name].append(one[0])
                    cores[name].append(one[1])
            speed = {name: size / statistics.median(some) for name, some in seconds.items()}
            core = {name: size / statistics.median(some) for name, some in cores.items()}
            ratio = speed["bloomery"] / speed[peer]
            agreed = same(peer, ours, theirs)
            told = ", ".join(f"{name} {100 * share:.2f}%" for name, share, _ in agreed)
            print(
                f"{peer:12} workers: {workers}  bloomery {speed['bloomery']:6.1f} MB/s ({core['bloomery']:.1f} a core) "
                f"{mine[2] / 1e6:,.0f} MB   {peer} {speed[peer]:.2f} MB/s ({core[peer]:.2f} a core) {its[2] / 1e6:,.0f} MB   "
                f"{ratio:.1f} times ({core['bloomery'] / core[peer]:.1f} a core)   same verdict: {told} of {len(texts)}",
                file=sys.stderr,
            )
            for name, _, differ in agreed:
                for (one, other), count in differ.most_common(5):
                    print(f"    {name}: {count} with {one or 'kept'!r} here, {other or 'kept'!r} there", file=sys.stderr)
            line = {"contest": f"filters-{peer}-{workers}", "unit": "MB/s", "ours": round(speed["bloomery"], 2), "peer": peer}
            print(json.dumps({**line, "peer_value": round(speed[peer], 3), "ratio": round(ratio, 1)}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one megabyte, one round; within a minute")
    parser.add_argument("--size", default="16MB", help="how much text")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated: " + ", ".join(PEERS))
    parser.add_argument("--peers-folder", type=Path, default=ROOT / ".peers", help="where `make peers-corpus` put them")
    parser.add_argument("--costs", action="store_true", help="no peers: what every signal, edit and selection takes alone")
    parser.add_argument("--nasty", action="store_true", help="odd text made here, not the Python installation's")
    given = parser.parse_args()
    size, rounds = ("1MB", 1) if given.quick else (given.size, given.rounds)
    texts = nasty(parse_size(size, "size")) if given.nasty else installation(size)
    if given.costs:
        from corpus_costs import tables

        print("\n\n".join(tables(texts, rounds)))
        return
    for peer in given.peers.split(","):
        if peer not in PEERS:
            parser.error(f"unknown peer {peer}; known: {', '.join(PEERS)}")
        python = given.peers_folder / f"corpus-{peer}" / "bin" / "python"
        if python.exists():
            contest(peer, str(python), texts, rounds)
        else:
            print(f"{peer} skipped: there is no {python}; say make peers-corpus", file=sys.stderr)


if __name__ == "__main__":
    main()
