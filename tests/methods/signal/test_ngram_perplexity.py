from __future__ import annotations

import json
import math

import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.signal.ngram_perplexity import NgramPerplexity
from bloomery.seams import Doc


def write(folder, texts: list[str]) -> str:
    (folder / "good.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(folder / "good.jsonl")


def test_exact_for_single_words(tmp_path):
    # a model of order 1 over begin, unknown, x and y: x 6 times, y 2, both known; counts of counts are none of 1, so the fallback discount
    found = NgramPerplexity(train=write(tmp_path, ["x x X y", "x x x y"]), order=1).columns([Doc("", "x"), Doc("", "")], None)
    p = (6 - 1.5) / 8 + (1.5 + 1.0) / 8 / 4
    assert found["nats"][0] == pytest.approx(-math.log(p)) and found["perplexity"][1] == 1 and found["unknown"][0] == 0


def test_property_familiar_text_is_less_perplexing(tmp_path):
    place = write(tmp_path, [f"the cat number {k} sat on the mat and the dog ate the food" for k in range(20)])
    texts = ["the cat number 7 sat on the mat", "mat the on sat 7 number cat the", "wholly other words stand here"]
    found = NgramPerplexity(train=place).columns([Doc("", text) for text in texts], None)
    assert found["perplexity"][0] < found["perplexity"][1] and found["unknown"].tolist() == [0, 0, 1]


def test_it_needs_documents(tmp_path):
    for train in ("", str(tmp_path / "none.jsonl")):
        with pytest.raises(BadInput, match=r"ngram_perplexity\.train"):
            NgramPerplexity(train=train).columns([Doc("", "a")], None)
    assert set(NgramPerplexity().columns([], None)) == {"perplexity", "nats", "unknown"}
