from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import BadInput
from bloomery.data.extension import differences, extend
from bloomery.data.token_bytes import pieces
from bloomery.data.tokenizer import Tokenizer, learn
from bloomery.stages.tokenize import NASTY

CODE = Path(json.__file__).read_text().split("\n\n")
NOUNS = ["Hund", "Katze", "Straße", "Müller", "Haus", "Garten", "Brücke", "Wasser", "Schule", "Fenster", "Kirche", "Vogel", "Zug", "привет"]
OTHER = [f"Der {NOUNS[i % 14]} und die {NOUNS[i * 4 % 13]} laufen über die {NOUNS[i * 3 % 14]} zum {i}. Mal.\n" for i in range(200)]


@pytest.fixture(scope="module")
def both():
    base = learn(CODE, 340, spare=2)
    return base, *extend(base, OTHER, 60)


def test_old_ids_stay_and_new_ones_are_spelled_by_them(both):
    base, new, made = both
    assert new.vocab == base.vocab + 60 == 400 and (made["old_vocab"], made["vocab"]) == (340, 400)
    assert all(new.inner.token_to_id(word) == i for word, i in base.inner.get_vocab().items())
    assert (new.pad, new.bos, new.eos, new.spare) == (base.pad, base.bos, base.eos, base.spare)
    assert made["ids"] == list(range(340)) and sorted(made["made"]) == list(range(340, 400))
    spelled = pieces(new.inner)
    for i, old in made["made"].items():
        assert max(old) < 340 and len(old) > 1 and b"".join(spelled[k] for k in old) == spelled[i]
    told = json.loads(json.dumps(made))
    assert differences(base, new, told) == 0
    assert differences(base, new, {**told, "made": {**told["made"], "350": [20, 21, 22]}}) == 1
    assert differences(base, base, told) == 0 and differences(new, base, told) == 60


def test_it_pays_on_the_new_text_and_changes_nothing_that_needs_no_new_token(both):
    base, new, _ = both
    assert len(new.encode(OTHER[0])) < 0.6 * len(base.encode(OTHER[0]))
    assert new.encode("value = string") == base.encode("value = string")
    for text in (*NASTY, *OTHER[:3]):
        assert new.decode(new.encode(text)) == text


def test_it_is_what_bpe_learns_when_it_goes_on():
    """From bytes alone, extending by n tokens gives the vocabulary that is learned at once."""
    base, at_once = learn(CODE, 262), learn(CODE, 300)
    found, _ = extend(base, CODE, 38)
    assert found.inner.get_vocab() == at_once.inner.get_vocab()
    assert [found.encode(text) for text in CODE[:20]] == [at_once.encode(text) for text in CODE[:20]]


def edges(tokenizer: Tokenizer, text: str) -> set[int]:
    spelled, at, found = pieces(tokenizer.inner), 0, set()
    for i in tokenizer.encode(text):
        at += len(spelled[i])
        found.add(at)
    return found


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(["Hund", "über", "Straße", " die", " value", "def", "x", "привет", " ", "ß", "日", "\n", "1"]), max_size=30
    ).map("".join)
)
def test_new_tokens_are_joined_old_ones(both, text):
    base, new, made = both
    assert edges(new, text) <= edges(base, text)
    opened = [k for i in new.encode(text) for k in made["made"].get(i, [i])]
    assert opened == base.encode(text)
    assert new.encode_flat([text])[0].tolist() == new.encode(text)


def test_twice(both):
    new = both[1]
    third, made = extend(new, [text.upper() for text in CODE], 10)
    assert third.vocab == 410 and all(third.inner.token_to_id(word) == i for word, i in new.inner.get_vocab().items())
    assert sorted(made["made"]) == list(range(400, 410))


def test_added_tokens_outside_the_vocabulary_keep_their_ids(tmp_path, both):
    base = both[0]
    base.save(tmp_path)
    spec = json.loads((tmp_path / "tokenizer.json").read_text())
    spec["added_tokens"].append({**spec["added_tokens"][0], "id": 340, "content": "<|tool|>"})
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    odd = Tokenizer.load(tmp_path)
    assert odd.vocab == 341 and odd.inner.token_to_id("<|tool|>") == 340
    found, made = extend(odd, OTHER, 5)
    assert found.inner.token_to_id("<|tool|>") == 340 and sorted(made["made"]) == [341, 342, 343, 344, 345]


def test_what_cannot_be_extended():
    with pytest.raises(BadInput, match="only byte-level BPE"):
        extend(learn(CODE, 330, model="bpe"), OTHER, 5)
    with pytest.raises(BadInput, match=r"add: the text holds pairs for \d+ more tokens only, not 5000"):
        extend(learn(CODE, 270), OTHER, 5000)
    with pytest.raises(BadInput, match="add: 270 tokens and 1048576 more"):
        extend(learn(CODE, 270), OTHER, 1 << 20)
