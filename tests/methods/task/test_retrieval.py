"""Documents ranked by BM25 and by a model."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

pytest.importorskip("bm25s")

from bloomery.core.errors import BadInput
from bloomery.methods.task.retrieval import Retrieval
from bloomery.seams import Episode, Rng, Source

RNG = Rng((0, "retrieval"))
BRIGHT = [{"query": "why do leaves fall", "gold_ids": ["2"], "excluded_ids": ["3"]}, {"query": "leaves of tea", "gold_ids": ["0", "4"]}]
TEXTS = [
    {"id": "0", "content": "tea is made of leaves"}, {"id": "1", "content": "leaves leaves leaves fall fall"},
    {"id": "2", "content": "in autumn trees let leaves go"}, {"id": "3", "content": "why do leaves fall"}, {"id": "4", "content": "a cup"},
]  # fmt: skip
LITSEARCH = [{"query": "papers on leaves", "corpusids": [7], "specificity": 0, "quality": 2}]
PAPERS = [{"corpusid": 7, "title": "Leaves", "abstract": "On leaves."}, {"corpusid": 8, "title": "Sea", "abstract": None}]


class Letters:
    def encode(self, text: str) -> list[str]:
        return list(text)

    def decode(self, ids) -> str:
        return "".join(ids)


def items(questions, context: int = 4000, **knobs) -> list:
    source = Source(SimpleNamespace(cfg=SimpleNamespace(context=context)), Letters(), questions=questions)
    return list(Retrieval(**knobs).items(source, RNG))


def summed(found: list, score) -> dict[str, float]:
    task = Retrieval()
    return task.summary([(item, None, task.grade(item, Episode("e", "e", logp=(score(item), -9.0)), None)) for item in found], RNG)


def test_a_model_that_knows_is_above_bm25_and_one_that_does_not_is_where_chance_puts_it():
    found = items({"q": BRIGHT, "d": TEXTS})
    assert [item.kind for item in found if item.id.startswith("q:0")] == ["wrong", "wrong", "right"], "3 is excluded, 4 shares no word"
    assert all(item.target == " why do leaves fall" for item in found if item.id.startswith("q:0"))
    knows = summed(found, lambda item: -1.0 if item.kind == "right" else -2.0)
    errs = summed(found, lambda item: -2.0 if item.kind == "right" else -1.0)
    even = summed(found, lambda item: -1.0)
    assert errs["retrieval_ndcg_10"] < knows["retrieval_ndcg_10"] and even["retrieval_ndcg_10"] == even["retrieval_ndcg_10@bm25"]
    one_of_two = 1 / (1 + 1 / 1.5849625)
    assert knows["retrieval_ndcg_10"] == pytest.approx((1 + one_of_two) / 2) and knows["retrieval_recall_20"] == 0.75
    assert knows["retrieval_ndcg_10.n"] == 2 and knows["retrieval_recall_20@bm25"] == 0.75


def test_the_form_of_litsearch_is_read_too():
    (item,) = items({"query": LITSEARCH, "corpus_clean": PAPERS})
    assert item.kind == "right" and item.prompt.startswith("Leaves\nOn leaves.\n\n")
    assert json.loads(item.tests) == {"rank": 0, "relevant": 1, "gold": ["7"], "hidden": []}
    assert summed([item], lambda item: -1.0)["retrieval_recall_5"] == 1
    assert items({"query": LITSEARCH, "corpus_clean": PAPERS, "other": [{"x": 1}]}, file="query", documents="corpus_clean") == [item]


def test_a_query_of_which_no_word_stands_anywhere_counts_as_lost():
    found = items({"q": [*BRIGHT, {"query": "zzz", "gold_ids": ["4"]}], "d": TEXTS})
    assert [item.kind for item in found if item.id.startswith("q:2")] == ["wrong", "wrong"]
    assert summed(found, lambda item: -1.0)["retrieval_ndcg_10.n"] == 3
    with pytest.raises(BadInput, match="two documents have the id 1"):
        items({"q": BRIGHT, "d": TEXTS, "e": [{"id": 1, "content": "another"}]})


def test_embeddings_search_all_documents_also_those_that_bm25_does_not_find():
    class Ranks:
        """Documents by how many letters they share with nothing: in a fixed order."""

        def search(self, query, k, role):
            assert role == "dense"
            return [(name, -float(i)) for i, name in enumerate(("3", "4", "2", "0", "1"))][:k]

    rows = [*BRIGHT[:1], {"query": "something else", "gold_ids": ["4"]}]
    task, found = Retrieval(embedder="dense"), items({"q": rows, "d": TEXTS}, embedder="dense")
    assert task.needs == ("search:dense",) and Retrieval().needs == ()
    graded = [(item, None, task.grade(item, Episode("e", "e", logp=(-1.0, 0.0)), Ranks())) for item in found]
    assert ["embedded_retrieval_recall_5" in grade.parts for _, _, grade in graded] == [item.id.endswith("/0") for item in found]
    told = task.summary(graded, RNG)
    second = 1 / 1.5849625
    assert told["retrieval_ndcg_10@embeddings"] == pytest.approx(second), "2 comes second where 3 is hidden, 4 second after 3"
    assert told["retrieval_recall_5@embeddings"] == 1 and told["retrieval_recall_5@bm25"] == 0.5
    assert told["retrieval_ndcg_10@embeddings.n"] == 2
    with pytest.raises(BadInput, match="no tools"):
        task.grade(found[0], Episode("e", "e", logp=(-1.0, 0.0)), None)


def test_a_library_holds_the_beginnings_of_all_documents():
    source = Source(SimpleNamespace(cfg=SimpleNamespace(context=4000)), Letters(), questions={"q": BRIGHT, "d": TEXTS})
    assert Retrieval().library(source) == {}, "nobody searches it"
    found = Retrieval(embedder="dense", tokens=16).library(source)
    assert list(found) == ["0", "1", "2", "3", "4"] and found["2"] == "in autumn trees " and found["4"] == "a cup"


def test_what_bm25_does_not_find_is_not_found_by_chance():
    found = items({"q": [{"query": "zzz", "gold_ids": ["0", "1"]}], "d": TEXTS})
    assert [item.kind for item in found] == ["wrong", "wrong"], "the first two stand in for nothing found"
    assert summed(found, lambda item: -1.0)["retrieval_recall_5@bm25"] == 0


def test_two_models_are_compared():
    task, found = Retrieval(), items({"q": BRIGHT, "d": TEXTS})
    rows = [
        [(item, None, task.grade(item, Episode("e", "e", logp=(sign * (item.kind == "right"), 0.0)), None)) for item in found]
        for sign in (1.0, -1.0)
    ]
    assert task.compare(*rows, RNG)["retrieval_ndcg_10"] > 0


def test_long_documents_are_read_at_their_beginning_and_what_is_missing_is_named():
    long = [{"id": "2", "content": "leaves " * 100}, *TEXTS]
    assert len(items({"q": BRIGHT[:1], "d": long[:1]}, tokens=20)[0].prompt) < 80
    for questions, said in (
        ({"q": BRIGHT, "d": TEXTS[:2]}, "document 2 is not among"), ({"q": BRIGHT}, "there are no documents"),
        ({"q": [{"query": "a", "gold_ids": []}], "d": TEXTS}, "none named"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=said):
            items(questions)
    with pytest.raises(BadInput, match="no room"):
        items({"q": BRIGHT, "d": TEXTS}, context=40)
    with pytest.raises(ValueError, match="candidates"):
        Retrieval(candidates=1)
    assert items({}) == []
