"""Work on a real Ray cluster: a head and two workers, started here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from bloomery.core import cluster as subject
from bloomery.core.cluster import paths
from bloomery.core.errors import BadInput
from bloomery.core.executors import Here, executor

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -c constraints.txt 'bloomery[ray]'")


def square(x: int) -> int:
    return x * x


def fail(x: int) -> int:
    raise ValueError(f"item {x}")


def dies(item: tuple[int, bool]) -> int:
    if item[1]:
        os.kill(os.getpid(), signal.SIGKILL)
    return item[0]


def where(x: int) -> str:
    time.sleep(0.5)  # or one worker does it all before the other is asked
    return ray.get_runtime_context().get_node_id()


def test_a_cluster_gives_what_this_process_gives(cluster):
    on = executor(f"ray:{cluster}")
    assert on.workers == 2
    assert list(on.map(square, range(40))) == list(Here().map(square, range(40)))
    assert any(len(set(on.map(where, range(8)))) == 2 for _ in range(8))  # a worker that is slow to start does nothing at first
    with pytest.raises(ValueError, match="item 0"):
        list(on.map(fail, range(3)))


@pytest.mark.wide
@pytest.mark.timeout(1200)
def test_a_client_is_given_what_a_process_of_the_cluster_is(client):
    """In a process of its own: one that is connected otherwise cannot become a client."""
    code = "from core.test_cluster import square; from bloomery.core.executors import executor; "
    code += f"on = executor({client!r}); print(list(on.map(square, range(9))), [on.done(square, 3)], on.workers, on.head)"
    told = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths()}, capture_output=True, text=True)
    assert told.stdout.startswith("[0, 1, 4, 9, 16, 25, 36, 49, 64] [9] 2 "), told


def test_a_client_without_its_package_is_refused_with_what_to_use(monkeypatch):
    monkeypatch.setattr(subject, "find_spec", lambda name: None)
    with pytest.raises(
        BadInput, match=r"--on ray://x:10001: Ray's client needs the package grpcio; pip install .* or name the cluster's head"
    ):
        executor("ray://x:10001")


def test_a_task_that_dies_is_done_again(cluster):
    on, deaths = executor(f"ray:{cluster}"), []

    def crashed(item, how):
        deaths.append((item, how))
        return item[0], False

    assert list(on.map(dies, [(k, k % 5 == 2) for k in range(9)], crashed=crashed)) == list(range(9))
    assert sorted(deaths) == [((2, True), "died"), ((7, True), "died")]
    with pytest.raises(RuntimeError, match="a worker process of 'measuring' died"):
        list(on.map(dies, [(1, True)], label="measuring"))
