"""Corpora and conversations as the page shows them."""

from __future__ import annotations

from bloomery.draw.corpora import FIRST, chats, corpus

FUNNEL = {
    "in": {"documents": 3, "bytes": 30},
    "steps": [{"reason": "a", "documents": 1, "bytes": 10}],
    "out": {"train": {"documents": 2, "bytes": 20}},
}


def spread(name: str, limits=()) -> dict:
    return {"name": name, "edges": [0, 1, 2], "kept": [1, 1], "dropped": [0, 1], "log": False, "limits": list(limits)}


def test_histograms_with_limits_come_first_and_the_rest_is_folded():
    spreads = [spread(f"s{i}", [("<", 1.0)] if i == 9 else ()) for i in range(10)]
    found = corpus({"address": "a"}, "corpus", FUNNEL, spreads)
    assert [h["name"] for h in found["histograms"]] == ["s9", *(f"s{i}" for i in range(FIRST - 1))] and len(found["more"]) == 10 - FIRST
    assert found["sum"] == "3 read − 1 dropped = 2 kept (2 to train on)."
    assert len(corpus({"address": "a"}, "c", FUNNEL, [spread(str(i), [("<", 1)]) for i in range(9)])["histograms"]) == 9


def test_conversations_by_kind():
    card = {"facts": {"train_dropped": {"asked twice": 5, "not drawn": 1}, "heldout_dropped": {"asked twice": 2, "odd": None}}}
    told = [{"kind": "a_b", "messages": [("user", "\n" + "q" * 2000)]}]
    found = chats(card, "chats", {"train": {"a_b": 3, "": 9}, "heldout": {"a_b": 1}}, told)
    assert found["line"] == "12 conversations to tune on, 1 held out, of 2 kinds." and found["left"] == "7 asked twice, 1 not drawn"
    assert "a b" in found["chart"] and "3 + 1 held out" in found["chart"] and "no kind named" in found["chart"]
    assert len(found["examples"][0]["head"]) == 90 and len(found["examples"][0]["messages"][0]["text"]) == 1601
    bare = chats({}, "chats", {"train": {"x": 1}}, [])
    assert bare["chart"] == "" and bare["left"] == ""
