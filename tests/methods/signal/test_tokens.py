from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from bloomery.core.errors import BadInput
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


def test_property_pieces_without_one(tmp_path):
    found = Tokens().columns([Doc("", "Hello world, it's 10!")], None)
    assert found["count"] == [7]  # Hello| world|,| it|'s| 10|!
    with pytest.raises(BadInput, match=r"tokenizer\.json"):
        Tokens(tokenizer=str(tmp_path / "none")).columns([Doc("", "a")], None)
