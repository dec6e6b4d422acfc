"""Who a process is among those of one launch, and how a launch ends."""

from __future__ import annotations

import logging

import pytest

from bloomery.core.errors import BadInput
from bloomery.core.ranks import Ranks, explained, first_host, here, hush, neighbours, of_slurm, repeated, tasks
from bloomery.core.team import demand_same, identity, start

CARD = {"address": "a1", "versions": {"torch": "2.13"}, "mode": {"threads": 1}, "sources": {"bloomery.x": "h"}}


def test_a_process_that_nobody_counted_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert here() == Ranks(0, 1, 0) and here().first


def test_torchrun_says_who_a_process_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert here() == Ranks(5, 8, 1) and not here().first
    monkeypatch.setenv("RANK", "8")
    with pytest.raises(BadInput, match="RANK=8, WORLD_SIZE=8, LOCAL_RANK=1 make no sense"):
        here()
    for name, value in (("RANK", "5"), ("LOCAL_RANK", "first")):
        monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match="LOCAL_RANK=first make no sense"):
        here()
    for value, many in (("4", 4), ("x", 0), ("", 0)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", value)
        assert neighbours() == many


SRUN = {
    "SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "20", "SLURM_STEP_NUM_NODES": "3", "SLURM_PROCID": "17",
    "SLURM_LOCALID": "1", "SLURM_NODEID": "2", "SLURM_STEP_TASKS_PER_NODE": "8(x2),4", "SLURM_STEP_NODELIST": "gpu[003-004,012]",
}  # fmt: skip


def test_srun_says_who_a_process_is() -> None:
    told = of_slurm(SRUN)
    assert told["RANK"] == "17" and told["WORLD_SIZE"] == "20" and told["LOCAL_RANK"] == "1" and told["LOCAL_WORLD_SIZE"] == "4"
    assert told["GROUP_RANK"] == "2" and told["GROUP_WORLD_SIZE"] == "3" and told["MASTER_ADDR"] == "gpu003"
    assert 15000 <= int(told["MASTER_PORT"]) < 32000 and of_slurm({**SRUN, "SLURM_STEP_ID": "1"})["MASTER_PORT"] != told["MASTER_PORT"]
    assert of_slurm({**SRUN, "MASTER_ADDR": "x", "MASTER_PORT": "9"}).items() >= {"MASTER_ADDR": "x", "MASTER_PORT": "9"}.items()


def test_a_batch_script_and_what_torchrun_starts_below_srun_are_no_tasks() -> None:
    batch = {name: value for name, value in SRUN.items() if "_STEP_" not in name} | {"SLURM_NTASKS": "20", "SLURM_PROCID": "0"}
    assert of_slurm(batch) == {} == of_slurm({**SRUN, "WORLD_SIZE": "8", "RANK": "1"}) == of_slurm({**SRUN, "SLURM_STEP_NUM_TASKS": "1"})
    with pytest.raises(BadInput, match="SLURM_STEP_NODELIST names no machine"):
        of_slurm({**SRUN, "SLURM_STEP_NODELIST": ""})


def test_slurms_lists_are_read() -> None:
    found = [first_host(one) for one in ("n1", "n1,n2", "gpu[003-010,012],login7", "r[2,4]n[01-16]-ib,x", "")]
    assert found == ["n1", "n1", "gpu003", "r2n01-ib", ""] and tasks("8(x2),4") == [8, 8, 4] and tasks("2") == [2]


@pytest.mark.parametrize(("codes", "starts"), [([1, 1, 0], 3), ([1, 2], 2), ([2], 1), ([75], 1), ([0], 1), ([1, 1, 1], 3)])
def test_a_launch_is_started_again_unless_it_was_refused_or_stopped(
    capsys: pytest.CaptureFixture[str], codes: list[int], starts: int
) -> None:
    begun: list[int] = []
    assert repeated(lambda again: begun.append(again) or codes[again], restarts=2) == codes[-1]
    assert begun == list(range(starts)) and capsys.readouterr().err.count("all are started again") == starts - 1


def test_a_launch_ends_with_the_code_of_the_first_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert explained({0: -9, 1: 2}, 1) == 2  # one that did not end by itself after a refusal
    assert explained({0: 75, 1: 2}, 1) == 2 and explained({0: 75}, 0) == 75 and capsys.readouterr().err == ""
    assert explained({0: 1, 2: -9}, 2) == 1
    assert explained({0: 1, 2: -9, 3: -15}, 0) == 1 and explained({1: -15}, 1) == 1
    assert capsys.readouterr().err.count("killed: rank 2 (SIGKILL)") == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"versions": {"torch": "2.12"}}, "rank 3 has torch 2.12 where rank 0 has 2.13"),
        ({"mode": {"threads": 2}}, "rank 3 has threads 2 where rank 0 has 1"),
        ({"sources": {"bloomery.x": "g"}}, "other source of bloomery"),
        ({}, "other inputs or files"),
    ],
)
def test_another_version_on_a_rank_is_named(change: dict, said: str) -> None:
    demand_same(3, identity(CARD), identity(CARD))
    with pytest.raises(BadInput, match=said):
        demand_same(3, identity(CARD), identity({**CARD, **change, "address": "b2"}))


def test_what_lies_below_a_hushed_logger_is_silent_too(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever level it has of its own."""
    below = logging.getLogger("some.library.agent")
    below.setLevel(logging.WARNING)
    below.warning("one")
    hush("some.library")
    below.warning("two")
    assert [record.message for record in caplog.records] == ["one"]


def test_each_start_of_a_launch_has_keys_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one machine torchrun says which start it is; over several the processes are counted."""

    class Store:
        count = 0

        def add(self, key: str, more: int) -> int:
            self.count += more
            return self.count

    for name in ("GROUP_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    assert start(None, 2) == 0
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "3")
    assert start(None, 2) == 3
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    store = Store()
    assert [start(store, 3) for _ in range(7)] == [0, 0, 0, 1, 1, 1, 2]
