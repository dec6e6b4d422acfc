"""What the first process and the others tell each other, over a store that both hold."""

from __future__ import annotations

import socket

import pytest

from bloomery.core.errors import BadInput
from bloomery.core.ranks import Ranks
from bloomery.core.team import Team


def of(rank: int, store: object, patience: float) -> Team:
    """A team's member without torch.distributed."""
    made = Team.__new__(Team)
    made.ranks, made.number, made.store = Ranks(rank, 3, patience=patience), 0, store
    return made


def test_who_has_not_ended_its_part_is_named() -> None:
    from torch.distributed import HashStore

    store = HashStore()
    first, other = of(0, store, patience=0.2), of(2, store, patience=60.0)
    first.call("lm", {"address": "a", "versions": {}, "mode": {}, "sources": {}})
    assert next(other.orders())["step"] == "lm"
    other.done()
    assert first.finished() == [1]
    store.set("done/1/1", "")
    assert first.finished() == []


def test_processes_that_do_not_meet_are_told_where(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as deaf:  # a port at which nobody listens
        deaf.bind(("localhost", 0))
        port = str(deaf.getsockname()[1])
        for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "localhost"), ("MASTER_PORT", port)):
            monkeypatch.setenv(name, value)
        with pytest.raises(BadInput, match=rf"rank 1: the 2 processes of this launch have not met at localhost:{port} within 1 s"):
            Team(Ranks(1, 2, patience=1.0))
