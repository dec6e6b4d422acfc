"""Worlds: always the same, of the kinds they say, and open to options."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from bloomery.core.errors import BadInput
from bloomery.data.worlds import opening
from bloomery.methods.edit.normalize import Normalize
from bloomery.seams import Rng


@pytest.mark.parametrize("name", opening.NAMES)
def test_worlds_are_deterministic_and_their_kinds_can_be_held_out(name: str) -> None:
    docs = list(opening.documents(name, {"documents": 400}))
    assert docs == list(opening.documents(name, {"documents": 400}))
    assert docs[:50] == list(opening.documents(name, {"documents": 50})), "more documents change none of the first"
    other = list(opening.documents(name, {"documents": 400, "seed": 1}))
    assert sum(a.text == b.text for a, b in zip(docs, other, strict=True)) < 4
    assert len({doc.id for doc in docs}) == 400 and len({doc.text for doc in docs}) >= 390
    packages = defaultdict(set)
    for doc in docs:
        packages[doc.meta["package"]].add(doc.meta["domain"])
        assert doc.text and Normalize().edit(doc, None, Rng((0,))) == [doc]
    assert all(len(kinds) == 1 for kinds in packages.values())
    counts = Counter(next(iter(kinds)) for kinds in packages.values())
    assert len(counts) >= 2 and min(counts.values()) >= 4


@pytest.mark.parametrize("name", opening.NAMES)
def test_an_address_holds_all_options(name: str) -> None:
    address = opening.address(name, {"documents": 30, "seed": 4})
    assert "documents=30" in address and opening.parse(address) == opening.open_world(name, {"documents": 30, "seed": 4})
    assert opening.address(name) == opening.address(name, {"seed": 0})


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("gramar", {}, "there is no such world"),
        ("grammar", {"colour": 1}, "unknown option 'colour'"),
        ("grammar", {"documents": "many"}, "documents must be of type int"),
        ("grammar", {"documents": 0}, "at least 1"),
        ("twins", {"language": "c"}, "language must be a, b or both"),
        ("twins", {"parallel": "perhaps"}, "parallel must be of type bool"),
    ],
)
def test_what_cannot_be_opened_is_said(name: str, options: dict, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        opening.open_world(name, options)


def test_the_best_loss_of_other_worlds_is_not_known() -> None:
    assert opening.parse("world://twins?parallel=true&language=b").parallel is True
    with pytest.raises(BadInput, match="is not known"):
        opening.optimal_bits("twins")
