from __future__ import annotations

import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.signal import toxicity
from bloomery.methods.signal.toxicity import Toxicity
from bloomery.seams import Doc


def test_exact_with_a_list_of_ones_own(tmp_path):
    (tmp_path / "words").write_text("Foo\nbar*\nto be*  or\n\n")
    found = Toxicity(words=str(tmp_path / "words")).columns([Doc("", "FOO food bar, barrel; to being or to be"), Doc("", "")], None)
    assert found["count"] == [4, 0] and found["share"] == [pytest.approx(4 / 9), 0]
    with pytest.raises(BadInput, match=r"toxicity\.words"):
        Toxicity(words=str(tmp_path / "none")).columns([Doc("", "a")], None)


def test_marks_within_a_phrase_part_words_on_both_sides(tmp_path):
    (tmp_path / "words").write_text("s&m\nb-foo\ndon’t bar\nf*ck\n🖕\nbaz*\n", encoding="utf-8")
    texts = ["an S&M club", "the b-foo, B foo", "don't bar, don’t bar", "f*ck, foo fck", "🖕", "bazaar", "s, b, don't"]
    found = Toxicity(words=str(tmp_path / "words")).columns([Doc("", text) for text in texts], None)
    assert found["count"] == [1, 2, 2, 1, 0, 1, 0]


def test_property_plain_words_are_not_counted():
    text = "The class passes Scunthorpe's assessment in Essex; a cockpit, a title."
    assert Toxicity().columns([Doc("", text)], None)["count"] == [0]
    assert Toxicity().columns([Doc("", "what bullshit, bullshitter")], None)["count"] == [2]


def test_property_searches_alone_tell_what_a_pass_over_the_words_does(monkeypatch):
    texts = [
        "Matsushita sat on it",
        "clean",
        "Piss\n OFF",
        "piss-poor offers",
        "a WHORE’S_whore shits",
        "gas of the",
        "Gas the",
        "",
        "ﬁn pornİ porn",
    ]
    docs = [Doc("", text) for text in texts]
    found = Toxicity().columns(docs, None)
    monkeypatch.setattr(toxicity, "FEW", 0)
    assert Toxicity().columns(docs, None) == found and sum(found["count"]) >= 4
