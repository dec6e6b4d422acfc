"""Items in documents: every pair against a plain version, planted leaks against floors, and what is told of each."""

from __future__ import annotations

import math
import re
from collections import defaultdict

import numpy as np
import pytest

from bloomery.data.contamination import LEAST, MOST, SLACK, ExamItem, Excerpts, Rules, Search
from bloomery.data.worlds.leaks import LEAKS, World

FLOORS = {"verbatim": 1.0, "spelling": 1.0, "tenth": 0.97, "question": 1.0, "answer": 1.0}  # recall, of 200 items each
PRECISION = 0.99


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def runs_of(text: str, length: int) -> list[tuple[str, ...]]:
    words = words_of(text)
    return [tuple(words[i : i + length]) for i in range(len(words) - length + 1)]


def plain_pairs(items: list[str], documents: list[str], rules: Rules) -> dict[tuple[int, int], tuple[float | None, float | None]]:
    """Shares by sets and by every passage; no run is common."""
    found = {}
    for d, document in enumerate(documents):
        for t, item in enumerate(items):
            if len(words_of(item)) < rules.words:
                continue
            own = set(runs_of(item, rules.words))
            share = len(own & set(runs_of(document, rules.words))) / len(own)
            five, size = set(runs_of(item, 5)), len(words_of(item))
            reach, there = size + size // SLACK - 4, runs_of(document, 5)
            best = max((len(five & set(there[i : i + reach])) for i in range(len(there))), default=0)
            near = best / len(five) if best >= max(LEAST, math.ceil(rules.near * len(five))) else None
            if share >= rules.share or near is not None:
                found[d, t] = share if share >= rules.share else None, near
    return found


def test_equals_the_plain_version() -> None:
    gen = np.random.default_rng(3)
    vocabulary = [f"w{i}" for i in range(30)]
    items = [" ".join(gen.choice(vocabulary, gen.integers(6, 30))) for _ in range(25)]
    documents = []
    for k in range(40):
        words = gen.choice(vocabulary, gen.integers(0, 80)).tolist()
        for _ in range(k % 3):
            piece = items[gen.integers(25)].split()
            piece = [word if gen.random() > 0.08 else "other" for word in piece[: gen.integers(5, 40)]]
            at = gen.integers(0, len(words) + 1)
            words[at:at] = piece
        documents.append(" ".join(words))
    rules = Rules(common=10**6)
    search = Search([ExamItem("set", str(k), text) for k, text in enumerate(items)], rules)
    found = {(one.document, one.item): (one.share, one.near) for one in search.found(documents)}
    expected = plain_pairs(items, documents, rules)
    assert len(expected) > 15 and {one[0] is None for one in expected.values()} == {True, False}
    assert found.keys() == expected.keys()
    for pair, shares in expected.items():
        assert found[pair] == pytest.approx(shares)


def measured(rules: Rules, world: World) -> tuple[dict[str, float], float, float]:
    """Recall by way, precision over pairs of document and item, and the share of documents without any that are flagged."""
    search = Search([ExamItem("exam", str(k), *world.item(k)) for k in range(world.items)], rules)
    docs = [world.document(i) for i in range(world.documents)]
    hits, right, flagged = defaultdict(list), [], []
    pairs = {(one.document, one.item) for start in range(0, len(docs), 256) for one in shifted(search, docs, start)}
    for i, doc in enumerate(docs):
        hits[doc.meta["domain"]].append((i, doc.meta["item"]) in pairs)
    for i, item in pairs:
        right.append(docs[i].meta["item"] == item)
        flagged.append(docs[i].meta["domain"] == "phrases")
    return {way: float(np.mean(found)) for way, found in hits.items()}, float(np.mean(right)), sum(flagged) / max(1, len(hits["phrases"]))


def shifted(search: Search, docs: list, start: int) -> list:
    from dataclasses import replace

    return [replace(one, document=one.document + start) for one in search.found([doc.text for doc in docs[start : start + 256]])]


def test_planted_leaks_are_found_and_common_phrases_are_not() -> None:
    recall, precision, flagged = measured(Rules(), World(documents=2200))
    for way in LEAKS:
        assert recall[way] >= FLOORS[way], (way, recall)
    assert precision >= PRECISION and flagged == 0
    assert recall["reworded"] < 0.5, "every third word changed is beyond what runs can tell; docs/duplicates.md says so"


def test_near_copies_are_what_runs_alone_miss() -> None:
    recall, precision, _ = measured(Rules(near=0.0), World(documents=1300))
    assert recall["tenth"] < 0.5 and recall["verbatim"] == 1 and precision == 1


def test_a_form_that_all_items_share_tells_nothing() -> None:
    form = "The following question is about the history of the world and has one answer only."
    items = [ExamItem("exam", str(k), f"{form} alpha{k} beta{k} gamma{k} delta{k} epsilon{k} zeta{k} eta{k}") for k in range(30)]
    search = Search([*items, ExamItem("exam", "bare", form)], Rules())
    assert search.found([f"Some text. {form} More text follows here."]) == []
    assert [one.item for one in search.found([items[7].question])] == [7]
    assert search.common.tolist() == [False] * 30 + [True] and search.looked.sum() == 30


def test_short_parts_are_joined_or_counted() -> None:
    items = [
        ExamItem("exam", "a", "Who wrote it", "a very long answer that has more than eight words"),
        ExamItem("exam", "b", "five words are in this", "and five more are here"),
        ExamItem("exam", "c", "too short", "yes"),
    ]
    search = Search(items, Rules())
    assert search.parts == ["answer", "both"] and search.short.tolist() == [False, False, True]
    (match,) = search.found(["nothing", "Five words are in THIS: and five more are here!"])
    assert (match.document, match.item, match.part, match.share) == (1, 1, "both", 1.0)


def test_of_one_document_the_best_items_are_told() -> None:
    items = [ExamItem("exam", str(k), " ".join(f"w{k}x{i}" for i in range(12))) for k in range(MOST + 5)]
    whole = " | ".join(one.question for one in items[:-1]) + " | " + " ".join(items[-1].question.split()[:10])
    found = Search(items, Rules()).found([whole, ""])
    assert len(found) == MOST and all(one.share == 1 for one in found)


def test_excerpts_are_cut_at_words_and_say_that_more_stands_around() -> None:
    text = " ".join(f"größe{i}," for i in range(60))
    piece = Excerpts(text).between(30, 33)
    assert piece.startswith("… größe18") and piece.endswith("größe44 …")
    assert Excerpts(text).between(0, 60) == text.removesuffix(",") and Excerpts("...").between(0, 3) == ""


@pytest.mark.parametrize("wrong", [{"words": 3}, {"share": 0}, {"near": 2}, {"common": 0}])
def test_rules_out_of_range(wrong: dict) -> None:
    with pytest.raises(ValueError, match="at least"):
        Rules(**wrong)
