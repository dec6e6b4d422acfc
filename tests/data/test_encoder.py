from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from bloomery.data import encoder, merges, pretokens
from bloomery.data.encoder import Encoder, in_order
from bloomery.stages.tokenize import NASTY

WORDS = [
    "def function",
    "  return x",
    "naïve café",
    "日本語 テキスト",
    "don't we'll I'VE",
    "aaaaaaaa bbbb abab",
    "1234 56",
    "\r\n\t\n",
    "…—!?",
    "привет мир",
]
TEXTS = [" ".join(WORDS[i % 10 :] + WORDS[: i % 7]) * 3 for i in range(60)]
PATTERNS = (pretokens.GPT2, pretokens.LLAMA3, pretokens.QWEN2)
NASTIER = (
    *NASTY, "'s't'S'ſ'RE've'lL'x''", " 's  't", "'", "' ", "  '", "a'", "\u0085\u00a0\u2003 x", "x\u2028\r\n \r", "1²½Ⅷ٣12345",
    " \n \n  x", "/usr//bin", "\t\tx",
    "𝒳𝒴 𐍈", "\U000e0001", "ǅ ǆ", "e\u0301\u0301", "a" * 5000, "ab" * 3000 + "c", " " * 3000, "\n" * 100 + "x", "日本" * 400,
    "!" * 200 + "\n\n",
)  # fmt: skip


def learned(pattern: str, vocab: int = 420) -> Tokenizer:
    inner = Tokenizer(models.BPE())
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pattern != pretokens.GPT2:
        bytes_alone = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        cut = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), bytes_alone])
    inner.pre_tokenizer, inner.decoder = cut, decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=vocab, initial_alphabet=alphabet, show_progress=False))
    return inner


@pytest.fixture(scope="module")
def pairs():
    made = {pattern: learned(pattern) for pattern in PATTERNS}
    return {pattern: (inner, Encoder.of(inner)) for pattern, inner in made.items()}


def same(inner: Tokenizer, ours: Encoder, texts: list[str]) -> None:
    ids, counts = ours.encode(texts)
    wanted = [one.ids for one in inner.encode_batch(texts, add_special_tokens=False)]
    assert counts.tolist() == [len(one) for one in wanted]
    assert ids.tolist() == [i for one in wanted for i in one]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_nasty_texts_give_the_ids_of_the_library(pairs, pattern):
    inner, ours = pairs[pattern]
    same(inner, ours, [*NASTIER, *TEXTS])
    same(inner, ours, list(NASTIER)[::-1])  # from a full cache


ODD = " \n\t\r'’sStTmMdDrReEvVlLſK_/.,!-1²½٣aAbBxéß日本語дяǅ\u0301\u0085\u00a0\u2003\u2028\ufeff👩\U0001d4b3"
CHARACTERS = st.one_of(st.sampled_from(list(ODD)), st.characters(codec="utf-8"))


@settings(max_examples=400, deadline=None)
@given(st.lists(st.text(CHARACTERS, max_size=60), min_size=1, max_size=4), st.sampled_from(PATTERNS))
def test_any_text_gives_the_ids_of_the_library(pairs, texts, pattern):
    same(*pairs[pattern], texts)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=300).map("".join), st.randoms(use_true_random=False))
def test_any_merges_give_the_ids_of_the_library(text, draw):
    """Merges in an order that no training gives, words on both sides of SHORT."""
    vocab, listed = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []
    for _ in range(draw.randrange(25)):
        left, right = (draw.choice([word for word in vocab if set(word) <= set("abc")]) for _ in range(2))
        if left + right not in vocab and len(left + right) < 12:
            vocab[left + right] = len(vocab)
        if left + right in vocab and (left, right) not in listed:
            listed.insert(draw.randrange(len(listed) + 1), (left, right))
    inner = Tokenizer(models.BPE(vocab=vocab, merges=listed))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    same(inner, Encoder.of(inner), [text, text[:60], text + " " + text])


def test_pieces_are_what_the_pattern_cuts():
    """The scanners alone, against the library's engine, on every character between others."""
    ends = {pretokens.GPT2: lambda *at: pretokens.gpt2_end(*at), pretokens.LLAMA3: lambda *at: pretokens.marks_end(*at, 3)}
    codes = [*range(0x3000), *range(0xA000, 0xB000), *range(0xF900, 0x10400), *range(0x1D400, 0x1D800), *range(0xE0000, 0xE0100)]
    text = "".join(f"{chr(code)}a {chr(code)}1{chr(code)}." for code in codes if not 0xD800 <= code < 0xE000)
    text += "a'ſbc x'Sbc 'lLm 'REd'vE 't'T 's'ſ'"
    pretokens.learn_kinds([text])
    for pattern, end in ends.items():
        raw = text.encode()
        data, at, found = np.frombuffer(raw + bytes(8), np.uint8), 0, [0]
        while at < len(raw):
            at = end(data, at, len(raw), pretokens.kinds())
            found.append(at)
        wanted = [piece for piece, _ in pre_tokenizers.Split(Regex(pattern), "isolated").pre_tokenize_str(text)]
        assert [raw[a:b].decode() for a, b in pairwise(found)] == wanted


def test_a_tiny_cache_and_frames_change_no_id(pairs, monkeypatch):
    inner = pairs[pretokens.GPT2][0]
    monkeypatch.setattr(encoder, "WAYS", 2)
    ours = Encoder.of(inner)
    same(inner, ours, [*TEXTS, *NASTIER])
    assert ours._cache().shape == (2, merges.SLOT)
    ids, counts = ours.encode(["", "x", "日本"], (7, 9))
    assert counts[0] == 2 and ids[:2].tolist() == [7, 9] and ids[2] == 7 and ids[-1] == 9 and counts.sum() == len(ids)
    assert [part.tolist() for part in ours.encode([])] == [[], []]


def test_what_is_not_known_here_is_left_to_the_library(pairs):
    spec = json.loads(pairs[pretokens.LLAMA3][0].to_str())

    def made(**changes):
        return Encoder.of(Tokenizer.from_str(json.dumps({**spec, **changes})))

    assert made() is not None
    assert made(normalizer={"type": "NFC"}) is None
    assert made(model={**spec["model"], "ignore_merges": True}) is None
    assert made(model={**spec["model"], "byte_fallback": True}) is None
    cut = json.loads(json.dumps(spec["pre_tokenizer"]))
    cut["pretokenizers"][0]["pattern"]["Regex"] += "|x"
    assert made(pre_tokenizer=cut) is None
    assert made(pre_tokenizer=None) is None
    assert Encoder.of(Tokenizer(models.Unigram())) is None


def test_a_token_that_stands_for_itself_is_left_to_the_library(pairs):
    inner = Tokenizer.from_str(pairs[pretokens.GPT2][0].to_str())
    inner.add_tokens(["<tool>"])
    inner.add_special_tokens(["<|eos|>"])
    inner.encode_special_tokens = True
    ours = Encoder.of(inner)
    assert ours.encode(["a <tool> b"]) is None and ours.encode(["a", "<tool>"]) is None
    same(inner, ours, ["a <|eos|> b", "<tool", "tool>"])
    inner.encode_special_tokens = False
    assert Encoder.of(inner).encode(["a <|eos|> b"]) is None


def test_threads_keep_the_order(pairs):
    ours = pairs[pretokens.GPT2][1]
    alone = [ours.encode([text])[0].tolist() for text in TEXTS]
    for workers in (1, 3):
        assert [made[0].tolist() for made in in_order(lambda text: ours.encode([text]), TEXTS, workers)] == alone
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda x: 1 // x, [1, 0, 1, 1, 1, 1, 1, 1], 2))
    seen = []
    running = in_order(lambda x: x, (seen.append(i) or i for i in range(100)), 2)
    next(running)
    assert len(seen) <= 5, "what is not asked for is not read"
