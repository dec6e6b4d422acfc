import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_words import llama2

from bloomery.data.tokenizer import learn
from bloomery.infer.spelling import Pieces, Spelling

INNER = learn(["def f(x):\n    return x + 1\n", "some words, naïve cafés and 日本 too"] * 20, 290).inner
SPACED = llama2()


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


def words(text: str) -> list[int]:
    return SPACED.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("prompt", ["", " ", "some", "some ", "日本", "é" * 20])
@settings(deadline=None, max_examples=40)
@given(answer=st.text("ab é日", max_size=12))
def test_an_answer_is_what_stands_behind_its_prompt(prompt, answer):
    """Of a decoder that takes the space off the first word: the prompt's first word, not the answer's."""
    before, ids = [1, *words(prompt)], words(answer)
    want = SPACED.decode(before + ids).removeprefix(SPACED.decode(before))
    spelling, shown = Spelling(SPACED, prompt=before), ""
    for token in ids:
        spelling.add(token)
        shown += spelling.text[len(shown) : spelling.safe()]
    spelling.end()
    assert spelling.text.startswith(shown)
    assert spelling.text == Spelling(SPACED, prompt=before).whole(ids) == want
    assert Spelling(SPACED).whole(ids) == SPACED.decode(ids)


def test_behind_special_tokens_alone_an_answer_is_a_text_of_its_own():
    ids = words("a b")
    assert Spelling(SPACED, prompt=[1, 2, 1] * 40).whole(ids) == "a b" and Spelling(SPACED, prompt=[*ids, *[2] * 40]).whole(ids) == " a b"


def test_behind_half_a_character_an_answer_is_decoded_alone():
    *half, last = words("日")[-3:]
    assert SPACED.decode(half).endswith("\ufffd")
    spelling = Spelling(SPACED, prompt=half)
    spelling.add(last)
    spelling.end()
    assert spelling.text == Spelling(SPACED, prompt=half).whole([last]) == "\ufffd"


@settings(deadline=None, max_examples=300)
@given(st.lists(st.one_of(st.integers(3, 258), st.integers(0, 305), st.integers(131, 250)), max_size=30))
def test_bytes_that_make_no_character_change_nothing_before_them(ids):
    """The decoder takes back characters in front of such bytes; what has been told stands, and is what is told at once."""
    spelling, seen = Spelling(SPACED, prompt=words("some")), ""
    for token in ids:
        spelling.add(token)
        assert spelling.text.startswith(seen)
        seen = spelling.text
    spelling.end()
    assert spelling.text == Spelling(SPACED, prompt=words("some")).whole(ids)


def test_tokens_of_a_prompt_begin_where_they_stand_in_its_text():
    ids = SPACED.encode("some words").ids
    found = Pieces(SPACED).starts(ids)
    assert found[:2] == [0, 0] and "some words"[found[-1] :].strip() == Pieces(SPACED).name(ids[-1]).strip()


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
