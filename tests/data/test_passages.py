"""Repeated passages against a search of every window."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.data import passages as module
from bloomery.data.passages import repeated_passages, without
from bloomery.seams import Doc


def tokens_of(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text)


def brute(texts: list[str], length: int) -> list[set[int]]:
    """The tokens of every window that stands before, in an earlier text or in this one without overlap."""
    seen: dict[tuple[str, ...], tuple[int, int]] = {}
    found = []
    for number, text in enumerate(texts):
        tokens, gone = tokens_of(text), set()
        for p in range(len(tokens) - length + 1):
            first = seen.setdefault(tuple(tokens[p : p + length]), (number, p))
            if first[0] < number or p - first[1] >= length:
                gone.update(range(p, p + length))
        found.append(gone)
    return found


def found(texts: list[str], length: int, **bounds: int) -> list[set[int]]:
    gone: list[set[int]] = [set() for _ in texts]
    sizes = np.array([len(text.encode()) for text in texts], np.int64)
    passages = repeated_passages(lambda rows: [texts[row] for row in rows], sizes, length, **bounds)
    for number, begin, end, source, origin in passages.tolist():
        gone[number].update(range(begin, end))
        ours, theirs = tokens_of(texts[number])[begin:end], tokens_of(texts[source])[origin : origin + end - begin]
        assert ours == theirs and end - begin >= length and (source, origin) < (number, begin)
    return gone


def sample(seed: int, count: int = 60) -> list[str]:
    """Texts with passages of each other, of themselves, and periods."""
    draw = random.Random(seed)
    texts: list[str] = []
    for _ in range(count):
        pieces = [" ".join(draw.choice(["a", "bb", "Ü", "x_1", "(", ")", "."]) + str(draw.randrange(30)) for _ in range(20))]
        for _ in range(draw.randrange(4)):
            kind = draw.randrange(3)
            source = (draw.choice(texts) if texts and kind else pieces[0]).split(" ")
            start = draw.randrange(len(source))
            pieces.append(" ".join(source[start : start + draw.randrange(1, 40)]) if kind < 2 else "to and fro " * draw.randrange(1, 9))
            pieces.append(f"mark{draw.randrange(10**6)}")
        texts.append("\n".join(pieces))
    return texts


@pytest.mark.parametrize("length", [2, 3, 7, 8, 20])
def test_equals_the_search_of_every_window(length: int) -> None:
    texts = sample(length)
    expected = brute(texts, length)
    assert sum(map(len, expected)) > 50
    assert found(texts, length) == expected


@given(st.lists(st.text("ab .", max_size=60), max_size=6), st.integers(2, 6))
@settings(max_examples=60, deadline=None)
def test_property_any_texts(texts: list[str], length: int) -> None:
    assert found(texts, length) == brute(texts, length)


@pytest.mark.parametrize("memory", [1, 300_000])
def test_neither_memory_nor_workers_change_the_result(memory: int) -> None:
    texts = sample(3, 200)
    expected = found(texts, 9)
    assert expected == brute(texts, 9)
    assert found(texts, 9, memory=memory) == expected == found(texts, 9, memory=memory, workers=3)


def test_equal_hashes_of_unlike_windows_remove_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every window gets one of a few hashes: what is not alike token by token stays."""

    def poor(tokens, ends, numbers, wanted, length, keys, where):
        n = real(tokens, ends, numbers, wanted, length, keys, where)
        keys[:n] = keys[:n] % np.uint64(5)
        return n

    real = module._windows
    texts = sample(4)
    expected = brute(texts, 8)
    monkeypatch.setattr(module, "_windows", poor)
    kept = found(texts, 8)
    assert all(a <= b for a, b in zip(kept, expected, strict=True)) and 0 < sum(map(len, kept)) < sum(map(len, expected))


@pytest.mark.parametrize(
    ("text", "passages", "left"),
    [
        ("one two,\n  three four  five\n", [[2, 4]], "one two four  five\n"),
        ("one two,\n  three four  five\n", [[0, 3], [2, 4]], " four  five\n"),
        ("one two,\n  three four  five\n", [[5, 6], [0, 2]], ",\n  three four\n"),
        ("one two,\n  three four  five\n", [[0, 6]], ""),
        ("é 日本 x", [[1, 2]], "é本 x"),
    ],
)
def test_text_without_passages(text, passages, left) -> None:
    doc = Doc("d", text)
    assert without(doc, np.array(passages)) == Doc("d", left) and doc.text == text


def test_marks_stay_on_their_words_when_passages_go() -> None:
    doc = Doc("d", "web: é\n\né 日本 x", spans=[(8, 14, 1.0)])
    assert without(doc, np.array([[4, 5]])) == Doc("d", "web: é\n\né本 x", spans=[(8, 12, 1.0)])
    assert without(doc, np.array([[0, 4]])) == Doc("d", " 日本 x", spans=[(0, 5, 1.0)])
    assert without(doc, np.array([[3, 7]])) == Doc("d", "web: é", spans=[(0, 6, 0.0)]), "no marks at all would mean all of it"


def test_a_repeat_of_one_token_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 tokens"):
        repeated_passages(lambda rows: [], np.zeros(0, np.int64), 1)
    assert repeated_passages(lambda rows: [], np.zeros(0, np.int64), 5).shape == (0, 5)
