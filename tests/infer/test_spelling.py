import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.data.tokenizer import learn
from bloomery.infer.spelling import Pieces, Spelling

INNER = learn(["def f(x):\n    return x + 1\n", "some words, naïve cafés and 日本 too"] * 20, 290).inner


def whole(ids) -> str:
    return INNER.decode(list(ids), skip_special_tokens=True)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.integers(0, 289), max_size=40))
def test_tokens_one_by_one_give_the_text_of_all_at_once(ids):
    spelling, seen = Spelling(INNER), ""
    for token in ids:
        spelling.add(token)
        assert spelling.text.startswith(seen) and spelling.safe() == len(spelling.text)
        seen = spelling.text
    spelling.end()
    assert spelling.text == whole(ids)
    assert all(a <= b for a, b in zip(spelling.starts, spelling.starts[1:], strict=False))


@settings(deadline=None, max_examples=150)
@given(st.text("abé日 ", max_size=30), st.lists(st.text("abé日 ", min_size=1, max_size=4), min_size=1, max_size=3))
def test_a_stop_string_ends_the_text_and_none_of_it_is_ever_shown(text, stop):
    spelling, shown = Spelling(INNER, stop), 0
    for token in INNER.encode(text, add_special_tokens=False).ids:
        spelling.add(token)
        shown = max(shown, spelling.safe())
        if spelling.stopped:
            break
    spelling.end()
    read = text if not spelling.stopped else whole(spelling.ids).rstrip("\ufffd")  # what was generated when the first stop string was whole
    cut = min((at for word in stop if (at := read.find(word)) >= 0), default=None)
    assert spelling.stopped == (cut is not None)
    assert spelling.text == read[:cut] and shown <= len(spelling.text)


def test_half_a_character_waits_and_ends_as_the_replacement():
    ids = INNER.encode("日", add_special_tokens=False).ids
    assert len(ids) > 1
    spelling = Spelling(INNER)
    spelling.add(ids[0])
    assert spelling.text == ""
    spelling.end()
    assert spelling.text == "\ufffd"


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=20))
def test_bytes_of_tokens_are_those_of_the_text(text):
    ids = INNER.encode(text, add_special_tokens=False).ids
    pieces = Pieces(INNER)
    assert b"".join(pieces.bytes(token) for token in ids) == text.encode()
    starts = pieces.starts(ids)
    assert len(starts) == len(ids) and starts == sorted(starts) and all(0 <= at <= len(text) for at in starts)


def test_names_tell_tokens_apart():
    pieces = Pieces(INNER)
    names = [pieces.name(token) for token in range(290)]
    assert len(set(names)) == 290 and names[:3] == ["<|pad|>", "<|bos|>", "<|eos|>"]
    assert any(name.startswith("bytes:\\x") for name in names)
    assert pieces.starts([1, *INNER.encode("é", add_special_tokens=False).ids, 2])[0] == 0


def test_other_vocabularies_name_bytes_and_spaces_their_way():
    class Words:
        decoder = None

        def get_added_tokens_decoder(self):
            return {}

        def id_to_token(self, token):
            return ["<0xE2>", "\u2581the", None][token]

    pieces = Pieces(Words())
    assert pieces.bytes(0) == b"\xe2" and pieces.name(1) == " the" and pieces.bytes(2) == b""


@pytest.mark.parametrize("stop", [["a"], ["\n\n"]])
def test_without_tokens_there_is_no_text(stop):
    spelling = Spelling(INNER, stop)
    spelling.end()
    assert spelling.text == "" and not spelling.stopped
