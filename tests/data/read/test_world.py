"""Worlds as sources of a recipe."""

from __future__ import annotations

import pytest

from bloomery.core.errors import BadInput
from bloomery.data import sources
from bloomery.data.read import world
from bloomery.data.worlds import opening


def documents(given) -> list:
    opened = sources.open_sources([given])
    sources.check(opened)
    return [doc for task in sources.tasks(opened, 10**6) for doc in sources.read(task)]


def test_a_corpus_gets_the_worlds_documents_in_any_chunks(monkeypatch) -> None:
    given = {"from": "world://noisy", "documents": 50, "seed": 2}
    wanted = list(opening.documents("noisy", {"documents": 50, "seed": 2}))
    for each in (7, 1000):
        monkeypatch.setattr(world, "EACH", each)
        found = documents(given)
        assert [(doc.id, doc.text) for doc in found] == [(doc.id, doc.text) for doc in wanted]
        for name in ("domain", "package"):
            assert [doc.meta[name] for doc in found] == [doc.meta[name] for doc in wanted]
    assert found[3].meta["path"] == "noisy/3" and found[3].meta["bytes"] == len(found[3].text)


def test_fingerprint_and_size_tell_worlds_apart() -> None:
    prints = [
        sources.fingerprint(sources.open_sources([given]))[0]
        for given in ("world://series?documents=40", {"from": "world://series", "documents": 40}, "world://series?documents=40&seed=1")
    ]
    assert prints[0] == prints[1] and prints[0]["sha256"] != prints[2]["sha256"]
    opened = sources.open_sources(["world://series?documents=40"])
    assert sources.size(opened) == sum(len(doc.text) for doc in documents("world://series?documents=40")) == prints[0]["bytes"]


def test_unknown_worlds_and_options_are_said_before_work() -> None:
    for given, said in (("world://", "no such world"), ("world://series?level=3", "unknown option 'level'")):
        with pytest.raises(BadInput, match=said):
            sources.open_sources([given])
