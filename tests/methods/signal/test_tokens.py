from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from bloomery.core.errors import BadInput
from bloomery.data.tokenizer import learn
from bloomery.methods.signal import tokens
from bloomery.methods.signal.tokens import Tokens
from bloomery.seams import Doc


def test_exact_with_a_tokenizer(tmp_path):
    made = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.save(str(tmp_path / "tokenizer.json"))
    docs = [Doc("", "a b  c"), Doc("", "")]
    for place in (tmp_path, tmp_path / "tokenizer.json"):
        found = Tokens(tokenizer=str(place)).columns(docs, None)
        assert found["count"] == [3, 0] and found["bytes_per_token"] == [2.0, 0.0]


def test_exact_compiled_code_counts_what_the_library_does(tmp_path, monkeypatch):
    learn(["some words and others\n" * 30], 270).save(tmp_path)
    docs = [Doc("", text) for text in ("some words, 日本語 and\n\n others" * 9, "", "<|eos|> others", "a\r\n")]
    plain = Tokens(str(tmp_path)).columns(docs, None)
    monkeypatch.setattr(tokens, "MANY", 0)
    assert (
        Tokens(str(tmp_path)).columns(docs, None) == plain and Tokens(str(tmp_path)).columns(docs[:2], None)["count"] == plain["count"][:2]
    )
    compiled = tokens._tokenizer(str(tmp_path))[1]
    monkeypatch.setattr(tokens, "_tokenizer", lambda place: (None, compiled))
    assert Tokens(str(tmp_path)).columns(docs[:2], None)["count"] == plain["count"][:2]


def test_property_pieces_without_one(tmp_path):
    found = Tokens().columns([Doc("", "Hello world, it's 10!")], None)
    assert found["count"] == [7]  # Hello| world|,| it|'s| 10|!
    texts = ["", " ", "a  b\n\n c\r\n", "日本語、x²३ don't 'S  \u3000\u0307é", "😀😀 10km\t" * 3]
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False)
    wanted = [len(pieces.pre_tokenize_str(text)) for text in texts]
    assert Tokens().columns([Doc("", text) for text in texts], None)["count"] == wanted
    with pytest.raises(BadInput, match=r"tokenizer\.json"):
        Tokens(tokenizer=str(tmp_path / "none")).columns([Doc("", "a")], None)
