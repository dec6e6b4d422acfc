"""Retrieved chunks against the spans that were wanted."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("bm25s")

from bloomery.core.errors import BadInput
from bloomery.methods.task.chunk_overlap import ChunkOverlap, cut, spanned
from bloomery.seams import Episode, Rng, Source

RNG = Rng((0, "chunks"))
DOCUMENT = "Tea is made of leaves. Rain falls on hills all day. The mill stands by the river since 1802. Bread is sold there."
ROW = {
    "document": DOCUMENT,
    "question": "since when does the mill stand by the river",
    "spans": ["The mill stands by the river since 1802"],
}


class Letters:
    def encode(self, text: str) -> list[str]:
        return list(text)


def items(row=ROW, context: int = 900, **knobs) -> list:
    return list(
        ChunkOverlap(**knobs).items(Source(SimpleNamespace(cfg=SimpleNamespace(context=context)), Letters(), questions={"q": [row]}), RNG)
    )


def summed(score, **knobs) -> dict[str, float]:
    task = ChunkOverlap(**knobs)
    found = items(**knobs)
    return task.summary([(item, None, task.grade(item, Episode("e", "e", logp=(score(item), -9.0)), None)) for item in found], RNG)


def test_exact_by_hand():
    """27 tokens in chunks of 8; 13 to 20 are wanted: 3 in the second chunk, which holds `mill`, and 5 in the third."""
    assert [len(one) for one, _ in cut(DOCUMENT, 8)] == [8, 8, 8, 3] and spanned("q", ROW) == set(range(13, 21))
    found = summed(lambda item: -1.0 if "mill" in item.prompt.partition("\n\n")[0] else -2.0, size=8, retrieved=1, candidates=4)
    assert found["chunk_iou"] == pytest.approx(3 / 13) and found["chunk_precision"] == found["chunk_recall"] == pytest.approx(3 / 8)
    assert found["chunk_precision_omega@any order"] == pytest.approx(8 / 16)
    both = summed(lambda item: -1.0 if item.kind in ("chunk 1", "chunk 2") else -2.0, size=8, retrieved=2, candidates=4)
    assert both["chunk_precision"] == both["chunk_iou"] == both["chunk_precision_omega@any order"] and both["chunk_recall"] == 1


def test_small_chunks_are_more_precise_and_large_ones_miss_less():
    large, small = (summed(lambda item: 0.0, size=size, retrieved=1, candidates=5) for size in (13, 3))
    assert small["chunk_precision@bm25"] > large["chunk_precision@bm25"] and small["chunk_recall@bm25"] < large["chunk_recall@bm25"]
    for found in (large, small):
        assert found["chunk_iou"] == found["chunk_iou@bm25"], "a model that cannot tell leaves BM25's order"


def test_spans_by_place_and_by_text_are_the_same():
    start = DOCUMENT.index("The mill")
    assert spanned("q", {**ROW, "spans": [[start, start + len(ROW["spans"][0])]]}) == spanned("q", ROW)
    assert spanned("q", {**ROW, "spans": ["Tea", "Bread is"]}) == {0, 22, 23}
    for spans, said in ((["no such text"], "does not stand"), ([[5, 5]], "does not stand"), ([], "hold no word"), ([" "], "hold no word")):
        with pytest.raises(BadInput, match=said):
            items({**ROW, "spans": spans})


def test_a_question_without_a_word_in_common_still_gets_chunks_and_knobs_are_checked():
    assert [item.kind for item in items({**ROW, "question": "zzz"}, size=8, retrieved=2)] == ["chunk 0", "chunk 1"]
    with pytest.raises(BadInput, match="no room"):
        items(context=60)
    with pytest.raises(ValueError, match="candidates"):
        ChunkOverlap(retrieved=5, candidates=4)


def test_two_models_are_compared_by_what_they_retrieve():
    task, found = ChunkOverlap(size=8, retrieved=1, candidates=4), items(size=8, retrieved=1, candidates=4)

    def graded(best: str, level: float) -> list:
        logp = {True: level, False: level - 1}
        return [(item, None, task.grade(item, Episode("e", "e", logp=(logp[item.kind == best], -9.0)), None)) for item in found]

    assert task.compare(graded("chunk 2", -1.0), graded("chunk 2", -5.0), RNG)["chunk_iou"] == 0
    change = task.compare(graded("chunk 2", -5.0), graded("chunk 1", -1.0), RNG)
    assert change["chunk_recall"] == pytest.approx(2 / 8) and change["chunk_iou"] == pytest.approx(5 / 11 - 3 / 13)
    assert {item.question for item in found} == {"q:0"}
