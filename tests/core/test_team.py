"""What the first process and the others tell each other, over a store that both hold."""

from __future__ import annotations

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
