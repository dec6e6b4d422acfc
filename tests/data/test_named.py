from __future__ import annotations

import json

import pytest

from bloomery.core import catalog
from bloomery.core.errors import BadInput
from bloomery.data.named import fingerprints, labelled, texts
from bloomery.methods.signal.classifier import Classifier
from bloomery.methods.signal.length import Length


def test_texts_in_order(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in ("one", " ", "two")))
    assert texts(str(tmp_path / "*.jsonl"), "knob") == ["one", "two"]
    for address in ("", str(tmp_path / "none.jsonl")):
        with pytest.raises(BadInput, match="knob"):
            texts(address, "knob")


def test_what_methods_read_counts_for_the_address(tmp_path):
    for name in ("good", "bad"):
        (tmp_path / f"{name}.jsonl").write_text('{"text": "x"}\n')
    methods = [Length(), Classifier(good=str(tmp_path / "good.jsonl"), bad=str(tmp_path / "bad.jsonl"))]
    before = fingerprints(methods)
    assert set(before) == {"classifier.good", "classifier.bad"} and before == fingerprints(methods)
    (tmp_path / "good.jsonl").write_text('{"text": "y"}\n')
    after = fingerprints(methods)
    assert after["classifier.good"] != before["classifier.good"] and after["classifier.bad"] == before["classifier.bad"]
    planned = [catalog.resolve("edit", "normalize", ""), *(catalog.resolve("signal", catalog.spec(one), "") for one in methods)]
    assert fingerprints(planned) == after, "while planning methods are still what the recipe says"
    with pytest.raises(BadInput, match=r"classifier\.good is empty"):
        fingerprints([catalog.resolve("signal", "classifier", "")])


def test_documents_by_a_column_of_theirs(tmp_path):
    rows = [{"text": "one", "label": "a"}, {"text": "two", "label": "b"}, {"text": "three", "label": "a"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert labelled(str(tmp_path / "a.jsonl"), "label", "knob") == {"a": ["one", "three"], "b": ["two"]}
    (tmp_path / "b.jsonl").write_text("")
    with pytest.raises(BadInput, match=r"^knob: .*b\.jsonl holds no documents$"):
        labelled(str(tmp_path / "b.jsonl"), "label", "knob")
