"""Small programs in the sandbox: how many a second, and what one costs the processor.

    python benchmarks/sandbox.py [--quick] [--programs 400] [--threads 4] [--peers interpreter] [--json]

Every program defines a function, calls it and prints what it gives, as those that a model writes do. Both modes take turns with the peer,
a fresh interpreter for each program (`python -I -c`) that is neither shut in nor bounded. Seconds are on the wall, of the best of three
rounds, and of the processors, all processes that a program needs together: on a machine that others use too the second is the steadier.
A mode that does not work here is skipped by name.

--json: one line per contest, {"contest", "unit", "ours", "peer", "peer_value", "ratio"}; a ratio above 1 means bloomery is ahead.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bloomery.core.errors import BadInput
from bloomery.tools import warm
from bloomery.tools.sandbox import Sandbox

CODE = "def f(x):\n    return sum(n * n for n in range(x))\n\nprint(f({n}))\n"
ROUNDS = 3
PEER = "interpreter"
TICK = os.sysconf("SC_CLK_TCK")


def in_sandbox(mode: str) -> Callable[[int], None]:
    """Runs program number n. BadInput where the mode does not work here."""
    sandbox = Sandbox(mode=mode)

    def run(n: int) -> None:
        ran = sandbox.run(CODE.format(n=n), limit_s=60)
        if ran.stdout != f"{sum(k * k for k in range(n))}\n":
            raise BadInput(f"program {n} gave {ran}")

    run(0)
    return run


def bare(n: int) -> None:
    subprocess.run([sys.executable, "-I", "-c", CODE.format(n=n)], check=True, capture_output=True)


def used() -> float:
    """Processor seconds of this process, of children that have ended, and of the sandbox's waiting processes with theirs."""
    own, ended = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    total, family = sum(one.ru_utime + one.ru_stime for one in (own, ended)), {keeper.process.pid for keeper in warm._KEEPERS.values()}
    every = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            every[int(path.parent.name)] = path.read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
    while more := {pid for pid, stat in every.items() if int(stat[1]) in family} - family:
        family |= more
    return total + sum(int(part) for pid in family & set(every) for part in every[pid][11:15]) / TICK


def round_of(run: Callable[[int], None], programs: int, threads: int) -> tuple[float, float]:
    """Programs a second on the wall, and processor milliseconds of one."""
    began, before = time.perf_counter(), used()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, range(programs)))
    return programs / (time.perf_counter() - began), 1e3 * (used() - before) / programs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 programs")
    parser.add_argument("--programs", type=int, default=400)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--peers", default=PEER, help="interpreter, or nothing")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.peers not in ("", PEER):
        parser.error(f"the only peer is {PEER}")
    sides: dict[str, Callable[[int], None]] = {}
    for mode in ("namespaces", "limits"):
        try:
            sides[mode] = in_sandbox(mode)
        except BadInput as why:
            print(f"skipped: mode {mode}: {why}", file=sys.stderr)
    if given.peers:
        sides[PEER] = bare
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for turn in range(ROUNDS):
        for name in sorted(sides, reverse=bool(turn % 2)):
            rounds[name].append(round_of(sides[name], 100 if given.quick else given.programs, given.threads))
    best = {name: (max(pace for pace, _ in found), min(cost for _, cost in found)) for name, found in rounds.items()}
    for name, (pace, cost) in best.items():
        if not given.json:
            print(f"{name:>12}{pace:10.0f} programs a second{cost:10.1f} ms of processor for one")
        elif name != PEER and given.peers:
            for unit, ours, theirs in (("programs/s", pace, best[PEER][0]), ("processor ms", cost, best[PEER][1])):
                ratio = round(ours / theirs if unit == "programs/s" else theirs / ours, 2)
                line = {"contest": f"sandbox, mode {name}", "unit": unit, "ours": round(ours, 2), "peer": PEER}
                print(json.dumps({**line, "peer_value": round(theirs, 2), "ratio": ratio}))


if __name__ == "__main__":
    main()
