"""Processes of one launch on a real Ray cluster of two workers: who they are, what they say, and how they end."""

from __future__ import annotations

import os

import pytest

from bloomery.core.errors import BadInput
from bloomery.core.executors import executor
from bloomery.core.ray_ranks import Place, Seat, allotted, gpus, launch, threads

STRUCK = """
import os, signal, sys, time
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    if os.environ["RANK"] == "1":
        os.kill({victim}, signal.SIGKILL)
        sys.exit(0)
    time.sleep(600)
print(*(os.environ[n] for n in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "GROUP_RANK", "GROUP_WORLD_SIZE")))
print("heard", file=sys.stderr)
"""


def node(name: str, alive: bool = True, **resources: float) -> dict:
    return {"NodeID": name, "Alive": alive, "Resources": resources}


def test_ranks_are_put_on_as_few_machines_as_hold_them() -> None:
    nodes = [node("a", CPU=2), node("b", CPU=8), node("c", CPU=4), node("d", alive=False, CPU=64), node("head")]
    assert allotted(nodes, 3) == [Place("b", local, 3, 0, 1) for local in range(3)]
    places = allotted(nodes, 10)
    assert [(one.node, one.local, one.group) for one in places] == [*(("b", i, 0) for i in range(8)), ("c", 0, 1), ("c", 1, 1)]
    assert {one.groups for one in places} == {2} and [one.locals for one in places] == [8] * 8 + [2] * 2
    with pytest.raises(BadInput, match="--processes 15: the Ray cluster has 14 processors; ask for no more than that"):
        allotted(nodes, 15)


def test_where_there_are_gpus_each_rank_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [node("a", CPU=32, GPU=4), node("b", CPU=64), node("c", CPU=16, GPU=4)]
    assert [one.node for one in allotted(nodes, 6)] == ["a"] * 4 + ["c"] * 2
    with pytest.raises(BadInput, match="--processes 9: the Ray cluster has 8 GPUs"):
        allotted(nodes, 9)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads(nodes, allotted(nodes, 8)) == 4 and threads(nodes, allotted(nodes, 6)) == 8
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads(nodes, allotted(nodes, 8)) == 3


@pytest.mark.timeout(1500)  # two starts of workers, which a busy machine takes minutes for
@pytest.mark.parametrize(
    ("victim", "said"),
    [
        pytest.param("os.getpid()", "killed: rank 1 (SIGKILL)", id="process"),
        pytest.param("os.getppid()", "rank 1 was lost: its Ray worker died", id="worker", marks=pytest.mark.wide),
    ],
)
def test_a_killed_rank_is_named_and_all_are_started_again(cluster: str, capfd: pytest.CaptureFixture[str], victim: str, said: str) -> None:
    on = executor(f"ray:{cluster}")
    assert on.head == cluster and gpus(on) == 0
    assert launch(on, 2, [], restarts=1, program=("-c", STRUCK.format(victim=victim))) == 0
    told = capfd.readouterr()
    words = [line for line in told.out.splitlines() if "(raylet)" not in line]  # of a lost worker Ray itself prints a notice
    assert sorted(words) == ["0 2 0 0 2", "1 2 0 1 2"] and told.err.count("heard") == 2
    assert f"{said}; the same command goes on from the last checkpoint" in told.err and "all are started again (1 of 1)" in told.err


def test_a_cluster_without_room_is_refused(cluster: str) -> None:
    with pytest.raises(BadInput, match="--processes 3: the Ray cluster has 2 processors"):
        launch(executor(f"ray:{cluster}"), 3, [])


def test_a_process_is_let_in_as_its_worker_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes over how the cluster knows its own, and nothing else of Ray's."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_JOB_ID", "ffff")
    seat, code = Seat(), None
    assert seat.begin(["-c", "import os; print(*(name for name in os.environ if name.startswith('RAY_')))"], {}, os.getcwd()) == ""
    said = []
    while code is None:
        more, code = seat.look()
        said += more
    assert (said, code) == ([(False, "RAY_AUTH_MODE\n")], 0)


@pytest.mark.wide
def test_a_refusal_is_final(cluster: str, capfd: pytest.CaptureFixture[str]) -> None:
    program = ("-c", "import os, sys; sys.exit(2 * (os.environ['RANK'] == '1'))")
    assert launch(executor(f"ray:{cluster}"), 2, [], restarts=3, program=program) == 2
    assert "started again" not in capfd.readouterr().err
