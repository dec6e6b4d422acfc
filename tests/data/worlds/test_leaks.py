"""Where which item stands."""

from __future__ import annotations

import re

from bloomery.data.worlds.leaks import LEAKS, World

WORLD = World(documents=400, items=50)


def plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def test_documents_hold_the_item_that_they_say() -> None:
    seen = set()
    for i in range(WORLD.documents):
        doc = WORLD.document(i)
        way, number = doc.meta["domain"], doc.meta["item"]
        seen.add((way, number))
        texts = [plain(text) for text in (WORLD.item(number) if number >= 0 else ())]
        whole = [text in plain(doc.text) for text in texts]
        if way in ("tenth", "reworded"):
            assert not all(whole), "a short answer may be left as it is"
        else:
            held = {"verbatim": [True, True], "spelling": [True, True], "question": [True, False], "answer": [False, True], "phrases": []}
            assert whole == held[way]
    assert {(way, k) for way in (*LEAKS, "reworded") for k in range(WORLD.items)} | {("phrases", -1)} == seen


def test_every_tenth_word_is_another() -> None:
    for i in (i for i in range(300) if WORLD.domain(i) == "tenth"):
        doc = WORLD.document(i)
        item = plain(" ".join(WORLD.item(doc.meta["item"]))).split()
        text = plain(doc.text).split()
        differ = min(sum(a != b for a, b in zip(item, text[at:], strict=False)) for at in range(len(text) - len(item) + 1))
        assert len(item) // 10 - 1 <= differ <= len(item) // 10 + 1
