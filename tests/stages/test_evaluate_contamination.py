"""Which training text is looked through: what is named and what the models came from, and what is said where it is not known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bloomery.cli.results import score_row, sentence
from bloomery.core.errors import BadInput
from bloomery.core.log import Log
from bloomery.core.store import Artifact
from bloomery.methods.task.min_k import MinK
from bloomery.methods.task.multiple_choice import MultipleChoice
from bloomery.seams import Item
from bloomery.stages._evaluate_sources import Trained, contaminated, judged, short_items, trained_on

LONG, OTHER = (" ".join(f"{word}{i}" for i in range(40)) for word in ("word", "other"))


class Shelf:
    """A store as `ancestor` sees it."""

    def __init__(self, *artifacts: Artifact) -> None:
        self.by_address = {one.address: one for one in artifacts}

    def get(self, address: str) -> Artifact:
        if address not in self.by_address:
            raise BadInput(f"there is no {address}")
        return self.by_address[address]


@pytest.fixture
def make(tmp_path: Path):
    def artifact(name: str, kind: str, texts: list[str] | None = None, **inputs: list[str]) -> Artifact:
        import pyarrow as pa

        from bloomery.data.tables import write_table

        (tmp_path / name).mkdir()
        if texts is not None:
            write_table(pa.table({"text": texts}), tmp_path / name / "train.parquet")
        return Artifact(name, tmp_path / name, {"kind": kind, "facts": {}, "inputs": inputs})

    return artifact


def test_the_training_text_of_all_that_a_model_came_from_is_known(make):
    corpus, more = make("corpus", "corpus", [LONG]), make("more", "corpus", ["nothing of it"])
    tokens, chats = make("tokens", "tokens", corpus=["corpus"]), make("chats", "chats", ["a conversation"], corpus=["more"])
    lm = make("lm", "model", data=["tokens"])
    tuned = make("tuned", "model", model=["lm"], chats=["chats"])
    trained = trained_on((corpus, None), (tuned, lm, None), Shelf(corpus, more, tokens, chats, lm))
    assert {one.name for one in trained.texts} == {"corpus", "more", "chats"} and trained.missing == () and trained.note() == ""
    assert trained.facts()["known"] == "whole"


def test_what_is_not_known_is_said(make):
    corpus = make("corpus", "corpus", [LONG])
    outside = make("outside", "folder")
    lm = make("lm", "model", data=["gone"], start=["corpus"])
    none = trained_on((), (outside,), Shelf())
    assert none.note() == "training text not at hand, contamination unknown" and none.facts()["missing"] == ["outside is from outside"]
    part = trained_on((), (lm,), Shelf(corpus))
    assert part.note() == "training text known in part: what lm came from is not at hand" and part.facts()["known"] == "part"
    assert trained_on((corpus,), (outside,), Shelf()).facts()["known"] == "part"


def test_answers_of_one_question_are_contaminated_together(make):
    trained = Trained((make("corpus", "corpus", [f"{LONG} right answer", "other text"]),), ())
    items = [Item(f"q/{k}", LONG, "score", f" {answer}", question="q") for k, answer in enumerate(["right answer", "wrong " * 30])]
    items += [Item(f"r/{k}", "another question", "score", f" {answer}", question="r") for k, answer in enumerate(("yes", "no"))]
    members = [Item("member:1", "", "score", LONG)]
    asked = {"multiple_choice": (MultipleChoice(), items), "min_k": (MinK(), members)}
    with Log(quiet=True).progress("x") as bar:
        found = contaminated(asked, {"lm_eval.t": {"0": [f"{LONG} {OTHER}", LONG, OTHER], "1": ["short"]}}, trained, 0.8, bar)
    assert found == {"multiple_choice": {"q/0", "q/1"}, "min_k": set(), "lm_eval.t": {"0"}}


def test_a_form_around_a_question_hides_no_copy(make):
    trained = Trained((make("corpus", "corpus", [f"Before. {LONG[:120]} And after.", "yes"]),), ())
    form = "Question: {}\nThink about it for a while, and then say which of these answers it is.\nAnswer:"
    items = [Item(str(k), form.format(text), "generate", "yes") for k, text in enumerate((LONG[:120], OTHER[:120], LONG[:40]))]
    with Log(quiet=True).progress("x") as bar:
        found = contaminated({"quiz": (MultipleChoice(), items)}, {}, trained, 0.8, bar)
        lone = contaminated({"quiz": (MultipleChoice(), items[:1])}, {}, trained, 0.8, bar)
    assert found == {"quiz": {"0"}}, "neither the form, nor the short answer, nor a question of few words tells anything"
    assert lone == {"quiz": set()}, "of one question alone it is not known what is form"


def test_scores_say_why_they_have_no_twin():
    score = {"task": "min_k", "clean": 1.0, "clean_low": 0.9, "clean_high": 1.1, "clean_n": 3, "note": "fp32"}
    asked = {"min_k": (MinK(), []), "multiple_choice": (MultipleChoice(), [])}
    told = judged(score, asked, Trained(("x",), ()), {})
    assert told["clean"] is None and told["clean_n"] is None and "asks about training text" in told["note"]
    other = {**score, "task": "multiple_choice"}
    assert judged(other, asked, Trained(("x",), ()), {}) == other
    assert judged(other, asked, Trained((), ("x",)), {})["clean"] is None
    part = judged(other, asked, Trained(("x",), ("base is from outside",)), {})
    assert part["clean"] == 1.0 and part["note"] == "fp32; training text known in part: base is from outside"


def test_items_too_short_to_be_looked_for_are_counted():
    """A leak of them would not be seen: their score must not pass for a clean one without a word."""
    items = [
        Item(str(k), f"Here is a question that all of them begin with: {text}", "generate", "yes")
        for k, text in enumerate((LONG, "Who?", "Why?"))
    ]
    asked = {"quiz": (MultipleChoice(), items), "long": (MultipleChoice(), [Item("a", LONG, "score", "x"), Item("b", OTHER, "score", "x")])}
    short = short_items(asked, {"lm_eval.t": {"0": [LONG], "1": ["short"]}})
    assert {name: said[:26] for name, said in short.items()} == {
        "quiz": "2 of 3 items have fewer th",
        "lm_eval.t": "1 of 2 items have fewer th",
    }
    score = {"task": "quiz", "clean": 1.0, "note": "greedy"}
    assert judged(score, asked, Trained(("x",), ()), short)["note"] == f"greedy; {short['quiz']}"
    assert judged({**score, "task": "long"}, asked, Trained(("x",), ()), short)["note"] == "greedy"


def test_the_table_shows_twins_where_they_differ():
    score = json.loads(
        '{"metric": "acc", "subject": "model", "value": 0.5, "low": 0.4, "high": 0.6, "n": 9, "unit": "share", "clean": 0.25, '
        '"clean_low": 0.125, "clean_high": 0.375, "clean_n": 4, "contaminated": 5}'
    )
    assert score_row(score, True) == ("acc", "model", "0.5 share", "0.4 to 0.6", "9", "0.25", "0.125 to 0.375", "4")
    assert score_row(score, False) == ("acc", "model", "0.5 share", "0.4 to 0.6", "9")
    known = {"known": "part", "from": ["corpus-1"], "missing": ["base is from outside"]}
    assert sentence(known, True).endswith("the training text of corpus-1; not all training text is known: base is from outside")
    assert "not known" in sentence({"known": "no", "from": [], "missing": []}, False)


def test_candidates_of_one_query_are_contaminated_together_whatever_their_texts(make):
    """Of a ranking nothing can be taken out: a document that stands in training text takes its query with it."""
    trained = Trained((make("corpus", "corpus", [LONG]),), ())
    items = [Item(f"q:0/{k}", text, "score", " query", question="q:0") for k, text in enumerate((LONG, OTHER))]
    items += [Item(f"q:1/{k}", f"{OTHER} {k}", "score", " query", question="q:1") for k in range(2)]
    with Log(quiet=True).progress("x") as bar:
        assert contaminated({"retrieval": (MultipleChoice(), items)}, {}, trained, 0.8, bar) == {"retrieval": {"q:0/0", "q:0/1"}}
