"""Who a process is among those of one launch, and how a launch ends."""

from __future__ import annotations

import pytest

from bloomery.core.errors import BadInput
from bloomery.core.ranks import Ranks, explained, here
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
    with pytest.raises(BadInput, match="RANK=8 and WORLD_SIZE=8 make no sense"):
        here()


def test_a_launch_ends_with_the_code_of_the_first_failure(capsys: pytest.CaptureFixture[str]) -> None:
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
