from __future__ import annotations

import json

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.data.special import SMALLEST
from bloomery.data.tokenizer import CHAT_TEMPLATE, Tokenizer, learn, vocab_of
from bloomery.seams import Vocab
from bloomery.stages.tokenize import NASTY

TEXTS = [f"def function_{i}(self, value):\n    return value * {i} + other_value  # <|eos|> naïve 日本\n" for i in range(200)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("tokenizer")
    learn(TEXTS, 330).save(where)
    return where


def test_round_trip_of_anything(folder):
    tokenizer = Tokenizer.load(folder)
    assert (tokenizer.pad, tokenizer.bos, tokenizer.eos, tokenizer.vocab) == (0, 1, 2, 330)
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000, 97)]))
    for text in (*NASTY, *TEXTS[:5], every):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text and min(ids, default=6) >= 6
    assert tokenizer.encode_batch(list(NASTY)) == [tokenizer.encode(text) for text in NASTY]
    assert tokenizer.decode_batch(tokenizer.encode_batch(list(NASTY))) == list(NASTY)
    assert tokenizer.encode_batch([]) == [] and tokenizer.decode([]) == ""


def test_much_text_gives_the_ids_of_little(folder, monkeypatch):
    tokenizer = Tokenizer.load(folder)
    little, framed = tokenizer.encode_flat(TEXTS), tokenizer.encode_flat(TEXTS, framed=True)
    monkeypatch.setattr("bloomery.data.tokenizer.MANY", 0)
    for ours, wanted in ((tokenizer.encode_flat(TEXTS), little), (tokenizer.encode_flat(TEXTS, framed=True), framed)):
        assert ours[0].dtype == wanted[0].dtype and all(np.array_equal(a, b) for a, b in zip(ours, wanted, strict=True))
    assert framed[0][0] == 1 and framed[0][-1] == 2 and (framed[1] == little[1] + 2).all()
    assert tokenizer.encode_batch(TEXTS) == [tokenizer.encode(text) for text in TEXTS]


@pytest.mark.parametrize("model", ["byte_bpe", "bpe", "unigram"])
def test_marks_are_counted_in_tokens(model):
    tokenizer = learn(TEXTS, 272, model=model)
    text = f"domain: nové日\n\n{TEXTS[3]}👩‍👩‍👧 é"
    ids, _ = tokenizer.encode_flat([text], framed=True)
    start = text.index("def")
    (whole,) = tokenizer.marked(text, ids, [(start, len(text), 1.0)])
    assert tokenizer.decode(ids[whole[0] : whole[1]]) == text[start:] + "<|eos|>" and whole[2] == 1.0
    (inner,) = tokenizer.marked(text, ids, [(text.index("日"), text.index("日") + 1, 0.5)])
    assert "日" in tokenizer.decode(ids[inner[0] : inner[1]]) and inner[1] < whole[0] and inner[2] == 0.5


def test_transformers_loads_the_same(folder, tmp_path):
    transformers = pytest.importorskip("transformers")
    theirs, ours = transformers.AutoTokenizer.from_pretrained(str(folder)), Tokenizer.load(folder)
    assert (theirs.pad_token_id, theirs.bos_token_id, theirs.eos_token_id, len(theirs)) == (0, 1, 2, 330)
    special = ("x = '<|eos|>'", "<|bos|>", "<|pad|><|bos|>a <|eos|>\n", "<|user|>x<|assistant|>")
    for text in (*NASTY, *special, TEXTS[0]):
        assert theirs(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] == ours.encode(text)
        assert theirs(text, split_special_tokens=True)["input_ids"] == [1, *ours.encode(text)]
        assert theirs.decode(ours.encode(text)) == text
    assert theirs(list(special), split_special_tokens=True)["input_ids"] == [[1, *ours.encode(text)] for text in special]
    assert theirs("a <|eos|>")["input_ids"][-1] == 2, "what transformers does with names of special tokens unless told otherwise"
    theirs.save_pretrained(str(tmp_path))
    again = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    assert again(special[0], split_special_tokens=True)["input_ids"] == [1, *ours.encode(special[0])]
    assert again.get_chat_template() == theirs.get_chat_template() == CHAT_TEMPLATE


def test_the_chat_template_in_transformers(folder):
    transformers = pytest.importorskip("transformers")
    theirs, ours = transformers.AutoTokenizer.from_pretrained(str(folder)), Tokenizer.load(folder)
    say = ("Be brief.", "  add 1\n", "    return x + 1\n", "again", "")
    roles = ("system", "user", "assistant", "user", "assistant")
    messages = [{"role": role, "content": content} for role, content in zip(roles, say, strict=True)]
    wanted, trained = [1], [0]
    for role, content in zip(roles, say, strict=True):
        answer = role == "assistant"
        words = [*ours.encode(content), *([2] if answer else [])]
        wanted += [3 + ("system", "user", "assistant").index(role), *words]
        trained += [0, *([int(answer)] * len(words))]
    found = theirs.apply_chat_template(messages, return_assistant_tokens_mask=True)
    assert found["input_ids"] == wanted and found["assistant_masks"] == trained
    prompt = theirs.apply_chat_template(messages[:2], add_generation_prompt=True)["input_ids"]
    assert prompt == wanted[: len(prompt)] and prompt[-1] == 5
    with pytest.raises(Exception, match="the roles are system, user and assistant, not eos"):
        theirs.apply_chat_template([{"role": "eos", "content": ""}])


def test_a_tokenizer_without_role_tokens_is_still_read(folder, tmp_path):
    old = json.loads((folder / "tokenizer.json").read_text())
    old["added_tokens"] = old["added_tokens"][:3]
    (tmp_path / "tokenizer.json").write_text(json.dumps(old))
    tokenizer = Tokenizer.load(tmp_path)
    assert (tokenizer.pad, tokenizer.bos, tokenizer.eos) == (0, 1, 2) and tokenizer.decode(tokenizer.encode("a <|user|>")) == "a <|user|>"


def test_learning_is_deterministic_and_ignores_special_names(folder, tmp_path):
    learn(iter(TEXTS), 330).save(tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert json.loads((folder / "tokenizer_config.json").read_text())["eos_token"] == "<|eos|>"


def test_smallest_vocabulary_is_bytes_alone():
    tokenizer = learn(["ab ab"], SMALLEST)
    assert len(tokenizer.encode("日本")) == 6 and tokenizer.decode(tokenizer.encode("日本")) == "日本"


def test_too_little_text_says_what_was_reached():
    with pytest.raises(BadInput, match=r"holds? pairs for 26\d tokens only, not 5000; say `vocab: 26\d` or less"):
        learn(["abc abc abc abc"], 5000)


def test_spare_ids_stand_for_no_text(tmp_path):
    tokenizer = learn(TEXTS, 330, spare=5)
    assert tokenizer.vocab == 330 and tokenizer.spare == (6, 7, 8, 9, 10) and tokenizer.first == 11
    texts = [*NASTY, *TEXTS[:5], "".join(f"<|spare_{i}|>" for i in range(6))]
    assert all(min(tokenizer.encode(text), default=11) >= 11 and tokenizer.decode(tokenizer.encode(text)) == text for text in texts)
    assert tokenizer.decode([6, 10]) == "<|spare_0|><|spare_4|>"
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.spare == tokenizer.spare and vocab_of(again) == Vocab(330, 0, 1, 2, tokenizer.spare)
    assert learn(TEXTS, 330).spare == ()


def test_missing_damaged_and_foreign_files(tmp_path):
    with pytest.raises(BadInput, match=r"holds no tokenizer\.json"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(BadInput, match="cannot be read"):
        Tokenizer.load(tmp_path)
    from tokenizers import Tokenizer as Inner
    from tokenizers.models import BPE

    Inner(BPE()).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(BadInput, match=r"no token <\|bos\|>"):
        Tokenizer.load(tmp_path)
