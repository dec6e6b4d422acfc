"""What a process that is not the first refuses to take part in."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bloomery.core import follow, recipe, walk
from bloomery.core.errors import BadInput
from bloomery.core.ranks import Ranks
from bloomery.core.signals import Signals
from bloomery.core.store import Store
from bloomery.core.team import identity


def test_a_store_that_is_not_shared_is_named(store: Store, toys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "SHOWN", 0.0)
    read = recipe.parse({"name": "toy", "steps": {"a": {"stage": "seed", "number": 5}}}, "toy")
    (entry,) = walk.plan(read, store)
    order, team = {"step": "a", **identity(entry.card)}, SimpleNamespace(ranks=Ranks(1, 2))
    with pytest.raises(BadInput, match=r"rank 1 does not see .*, where rank 0 works; the store must lie on a disk that all machines share"):
        follow.take_part(order, read, store, team, Signals())
    first = store.work / f"seed-{entry.address[:16]}"
    (first / "out").mkdir(parents=True)
    follow.take_part(order, read, store, team, Signals())
    assert (first / "rank-1" / "out" / "number").is_file() and not list((first / "out").iterdir())
    with pytest.raises(BadInput, match="rank 1 has another recipe than rank 0"):
        follow.take_part({**order, "step": "b"}, read, store, team, Signals())
