from __future__ import annotations

import json
import random

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.signal import classifier
from bloomery.methods.signal.classifier import Classifier
from bloomery.seams import Doc

GOOD, BAD = ["theorem", "lemma", "proof", "hence", "field"], ["buy", "cheap", "now", "offer", "click"]
BOTH = ["the", "of", "a", "in", "and", "to", "is"]


def made(words: list[str], seed: int, count: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices([*words, *BOTH], k=40)) for _ in range(count)]


@pytest.fixture
def sets(tmp_path):
    for name, words, count in (("good", GOOD, 60), ("bad", BAD, 20)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in made(words, 1, count)))
    return {name: str(tmp_path / f"{name}.jsonl") for name in ("good", "bad")}


def test_unseen_documents_are_told_apart(sets):
    docs = [Doc("", text) for text in (*made(GOOD, 2, 20), *made(BAD, 3, 20), "")]
    found = Classifier(**sets, buckets=4096).columns(docs, None)
    assert np.all(found["good"][:20] > 0.9) and np.all(found["good"][20:40] < 0.1)
    assert found["good"] == pytest.approx(1 / (1 + np.exp(-found["logit"])))


def test_property_the_same_sets_give_the_same_numbers(sets):
    docs = [Doc("", text) for text in made(GOOD + BAD, 4, 9)]
    one = Classifier(**sets, buckets=512).columns(docs, None)
    classifier._trained.cache_clear()
    assert np.array_equal(Classifier(**sets, buckets=512).columns(docs, None)["logit"], one["logit"])


def test_it_needs_both_sets(sets):
    with pytest.raises(BadInput, match=r"classifier\.bad"):
        Classifier(good=sets["good"]).columns([Doc("", "a")], None)
