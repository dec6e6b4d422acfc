from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import BadInput
from bloomery.data.token_bytes import pieces
from bloomery.data.tokenizer import Tokenizer, learn
from bloomery.data.vocabulary import BYTES
from bloomery.stages.tokenize import NASTY
from bloomery.train.heldout import token_bytes

TEXTS = [f"{part}\n# naïve 日本 привет\n" for part in Path(json.__file__).read_text().split("\n\n")]
MODELS = ("byte_bpe", "bpe", "unigram")


@pytest.fixture(scope="module")
def made():
    return {model: learn(TEXTS, 360, spare=3, model=model) for model in MODELS}


@pytest.mark.parametrize("model", MODELS)
def test_any_text_comes_back_and_none_becomes_special(made, model):
    tokenizer = made[model]
    assert tokenizer.vocab == 360 and tokenizer.spare == (6, 7, 8) and tokenizer.first == 9
    spelled = pieces(tokenizer.inner)
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000, 97)]))
    for text in (*NASTY, *TEXTS[:3], every, "<0x41> <0x0A>", "<unk>", "\u2581x"):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text and min(ids, default=9) >= 9
        assert b"".join(spelled[i] for i in ids) == text.encode()


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=40), st.sampled_from(MODELS))
def test_bytes_of_tokens_add_up(made, text, model):
    ids, counts = made[model].encode_flat([text, text])
    half = ids[: counts[0]].tolist()
    assert half == ids[counts[0] :].tolist() == made[model].encode(text) and made[model].decode(half) == text
    spelled = pieces(made[model].inner)
    assert b"".join(spelled[i] for i in half) == text.encode()


@pytest.mark.parametrize("model", MODELS)
def test_held_out_bits_count_the_bytes_of_each_token(made, model, tmp_path):
    made[model].save(tmp_path)
    sizes = token_bytes(tmp_path / "tokenizer.json", 400)
    text = TEXTS[0] + "日本🙂"
    assert sizes[made[model].encode(text)].sum() == len(text.encode()) and sizes[:9].sum() == 0 and sizes[360:].sum() == 0
    assert token_bytes(tmp_path / "tokenizer.json", 300).shape == (300,)


def test_the_three_are_what_they_say(made):
    kinds = {model: json.loads(made[model].inner.to_str()) for model in MODELS}
    assert [kinds[model]["model"]["type"] for model in MODELS] == ["BPE", "BPE", "Unigram"]
    assert [made[model].fast is not None for model in MODELS] == [True, False, False]
    assert all(len(kind["added_tokens"]) == 9 for kind in kinds.values()), "single bytes are ordinary pieces"
    assert kinds["bpe"]["model"]["vocab"]["<0x00>"] == 9 and kinds["unigram"]["model"]["vocab"][9][0] == BYTES[0]
    scores = [score for _, score in kinds["unigram"]["model"]["vocab"][9 + 256 :]]
    assert scores == sorted(scores, reverse=True) and scores[0] < 0
    word = "string"
    assert all(len(tokenizer.encode(word)) < len(word) for tokenizer in made.values())
    assert len(made["byte_bpe"].encode("\u4e00")) == len(made["bpe"].encode("\u4e00")) == 3, "a character that was never met is three bytes"
    assert len(made["bpe"].encode("e")) == 1


@pytest.mark.parametrize("model", MODELS)
def test_learning_again_gives_the_same(made, model):
    assert learn(iter(TEXTS), 360, spare=3, model=model).inner.to_str() == made[model].inner.to_str()


def test_unigram_takes_the_likeliest_cut(made):
    """Against every cut of a word, scored by the stored probabilities."""
    scores = dict(map(tuple, json.loads(made["unigram"].inner.to_str())["model"]["vocab"]))

    def best(word: str) -> float:
        found = [0.0] + [-np.inf] * len(word)
        for stop in range(1, len(word) + 1):
            found[stop] = max(found[start] + scores.get(word[start:stop], -np.inf) for start in range(stop))
        return found[-1]

    names = {i: word for word, i in made["unigram"].inner.get_vocab().items()}
    words = [word for word in sorted({word for text in TEXTS for word in text.split() if word.isalpha()}) if best(word) > -np.inf]
    assert len(words) > 30
    for word in words:
        assert sum(scores[names[i]] for i in made["unigram"].encode(word)) == pytest.approx(best(word))


@pytest.mark.parametrize("model", MODELS)
def test_transformers_reads_them(made, model, tmp_path):
    transformers = pytest.importorskip("transformers")
    made[model].save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    for text in (*NASTY, TEXTS[1]):
        assert theirs(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] == made[model].encode(text)
    assert Tokenizer.load(tmp_path).encode(TEXTS[0]) == made[model].encode(TEXTS[0])


@pytest.mark.parametrize("model", MODELS)
def test_too_little_text(model):
    with pytest.raises(BadInput, match=r"say `vocab: \d+` or less"):
        learn(["abc abc abc"], 900, model=model)
