"""Executors: the order of the items, whatever the number of workers."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time

import psutil
import pytest

from bloomery.core.errors import BadInput
from bloomery.core.executors import Local, executor


def square(x: int) -> int:
    return x * x


def fail(x: int) -> int:
    raise ValueError(f"item {x}")


def die(x: int) -> int:
    os._exit(9)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_the_order_of_the_items(workers):
    assert list(Local(workers).map(square, range(50))) == [x * x for x in range(50)]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_worker_is_raised_here(workers):
    with pytest.raises(ValueError, match="item 0"):
        list(Local(workers).map(fail, range(3)))


def test_a_killed_worker_is_named():
    with pytest.raises(RuntimeError, match="a worker process of 'reading' ended with exit code 9"):
        list(Local(2).map(die, range(3), label="reading"))


def dies_once(item: tuple[int, str]) -> int:
    if item[1] == "exit":
        os._exit(9)
    if item[1] == "kill":
        os.kill(os.getpid(), 9)
    if item[1] == "segfault":
        ctypes.string_at(0)
    return item[0]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_dies_is_replaced_and_costs_only_its_item(workers):
    ways, told = {3: "exit", 5: "kill", 8: "segfault"}, []

    def crashed(item, how):
        told.append((item[0], how))
        return item[0], ""

    found = Local(workers).map(dies_once, [(k, ways.get(k, "")) for k in range(12)], crashed=crashed)
    assert list(found) == list(range(12))
    kill = "was killed by SIGKILL, most likely for want of memory"
    assert sorted(told) == [(3, "ended with exit code 9"), (5, kill), (8, "was killed by SIGSEGV")]


def test_places_are_read_and_unknown_ones_refused():
    assert executor("local:3").workers == 3 and isinstance(executor("local"), Local)
    for name in ("remote", "local:0", "local:x"):
        with pytest.raises(BadInput, match="known are local"):
            executor(name)


def test_items_are_taken_as_they_are_needed():
    taken = []

    def items():
        for i in range(1000):
            taken.append(i)
            yield i

    results = Local(2).map(square, items())
    next(results)
    assert len(taken) <= 9
    results.close()


SCRIPT = """
import sys
from bloomery.core.executors import Local
from operator import neg
print(list(Local(2).map(neg, range(3))))
"""

ORPHANS = """
import os, signal, time
from bloomery.core.executors import Local
results = Local(2).map(time.sleep, [0, 0, 60, 60])
next(results)
import psutil
print(*[child.pid for child in psutil.Process().children(recursive=True)], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_plain_script_can_use_workers(tmp_path):
    """Without `if __name__ == "__main__":`, as people write in notebooks and scripts."""
    (tmp_path / "plain.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(tmp_path / "plain.py")], capture_output=True, text=True)
    assert done.stdout == "[0, -1, -2]\n", done.stderr


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    (tmp_path / "killed.py").write_text(ORPHANS)
    done = subprocess.run([sys.executable, str(tmp_path / "killed.py")], stdout=subprocess.PIPE, text=True, timeout=30)
    left = [int(pid) for pid in done.stdout.split()]
    assert len(left) >= 2
    deadline = time.monotonic() + 10
    while any(psutil.pid_exists(pid) for pid in left) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in left if psutil.pid_exists(pid)]
