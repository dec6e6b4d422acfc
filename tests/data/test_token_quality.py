from __future__ import annotations

import numpy as np
import pytest

from bloomery.data import token_quality as quality
from bloomery.data.shards import Shards, write_shards
from bloomery.data.token_bytes import pieces
from bloomery.data.tokenizer import learn


def test_scripts_by_the_names_of_letters():
    assert quality.scripts("aß日本я1 ½!") == {"latin": 2, "cjk": 2, "cyrillic": 1}
    assert quality.script("α") == "greek" and quality.script("5") == "" and quality.script("\u0378") == ""


def test_completeness_by_hand():
    spelled = [b"", b"ab ", "я".encode(), b"\xd0", b"\xb6", "日x".encode()]
    uses = np.array([9, 2, 1, 1, 1, 0])  # "ab ab яж": ж is two broken tokens
    found = quality.completeness(spelled, uses, ["ab ab яж"])
    assert found["broken"] == pytest.approx(2 / 10)
    assert found["scripts"] == {
        "latin": {"tokens": 2, "letters": 4, "whole": 1.0},
        "cyrillic": {"tokens": 1, "letters": 2, "whole": 0.5},
        "cjk": {"tokens": 1, "letters": 0, "whole": None},
    }
    assert list(found["scripts"]) == ["latin", "cyrillic", "cjk"], "the text's most frequent first"
    assert quality.completeness([b"", b"a"], np.zeros(2, int), [])["broken"] == 0


def shards_of(folder, tokenizer, rows):
    documents = []
    for domain, text in rows:
        ids = [tokenizer.bos, *tokenizer.encode(text), tokenizer.eos]
        documents.append(({"id": "x", "package": "p", "path": "p", "domain": domain, "bytes": len(text.encode())}, np.array(ids)))
    write_shards(folder, documents, tokenizer.vocab)
    return Shards(folder)


def test_a_vocabulary_of_one_language_is_seen_to_be_one(tmp_path):
    """P411: one learned from both languages covers more scripts, and its tokens of the second language are longer."""
    latin, russian = "the cat and the dog are in the house", "кошка и собака сидят в большом доме"
    alone, both = learn([latin] * 20, 280), learn([latin, russian] * 20, 320)
    found = {}
    for name, tokenizer in (("alone", alone), ("both", both)):
        shards = shards_of(tmp_path / name, tokenizer, [("a", latin), ("b", russian)] * 3)
        uses = quality.uses(shards, len(shards), tokenizer.vocab)
        assert uses.sum() == shards.total and quality.uses(shards, 2, tokenizer.vocab).sum() == shards.total / 3
        assert quality.uses(shards, 0, tokenizer.vocab).sum() == 0
        domains = quality.by_domain([shards, shards])
        assert domains["a"]["documents"] == 6 and domains["b"]["bytes"] == 6 * len(russian.encode())
        assert domains["b"]["tokens"] == 6 * len(tokenizer.encode(russian))
        found[name] = {
            **quality.completeness(pieces(tokenizer.inner), uses, [latin, russian] * 3),
            "parity": quality.parity(domains, ("a", "b")),
            "bytes": quality.bytes_per_token(domains),
        }
    assert found["alone"]["scripts"]["cyrillic"]["whole"] == 0 < found["both"]["scripts"]["cyrillic"]["whole"] == 1
    assert found["alone"]["scripts"]["latin"]["whole"] == 1 and found["alone"]["broken"] > 0.5 > found["both"]["broken"] == 0
    assert found["alone"]["parity"]["b"] > found["both"]["parity"]["b"] >= 1 and found["alone"]["parity"]["a"] == 1
    assert found["alone"]["bytes"]["b"] == 1 or found["alone"]["bytes"]["b"] < found["both"]["bytes"]["b"]


def test_parity_asks_for_texts_that_say_the_same():
    rows = {
        "a": {"documents": 10, "bytes": 5, "tokens": 20},
        "b": {"documents": 10, "bytes": 5, "tokens": 30},
        "c": {"documents": 5, "bytes": 5, "tokens": 3},
    }
    assert quality.parity(rows, ("a", "b")) == {"a": 1.0, "b": 1.5}
    with pytest.raises(ValueError, match="have 10 and 5 documents"):
        quality.parity(rows, ("a", "c"))
    with pytest.raises(ValueError, match="no document is of the domain 'd'; known: "):
        quality.parity(rows, ("a", "d"))
