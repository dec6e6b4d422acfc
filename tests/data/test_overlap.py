"""Shares of seen runs against a plain version."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from bloomery.core.errors import BadInput
from bloomery.data.overlap import Items, leaks, run_hashes, seen_shares


def reference(texts: list[str], training: list[str], words: int) -> list[float]:
    def runs(text: str) -> list[tuple[str, ...]]:
        found = re.findall(r"\w+", text.lower())
        return [tuple(found[i : i + words]) for i in range(len(found) - words + 1)] or ([tuple(found)] if found else [])

    seen = {run for text in training for run in runs(text)}
    return [sum(run in seen for run in runs(text)) / max(1, len(runs(text))) for text in texts]


def sample(seed: int, count: int) -> list[str]:
    gen = np.random.default_rng(seed)
    return [" ".join(gen.choice(["a", "B", "über", "x_1", "(", ")\n", "9", "\n\n    "], gen.integers(0, 60))) for _ in range(count)]


@pytest.mark.parametrize("words", [1, 2, 3, 13])
def test_equals_the_plain_version(words: int) -> None:
    texts, training = sample(1, 40), sample(2, 60)
    np.testing.assert_allclose(seen_shares(texts, [training[:10], [], training[10:]], words), reference(texts, training, words))


def test_copies_are_found_through_white_space_and_case() -> None:
    text = " ".join(f"word{i} other" for i in range(40))
    assert seen_shares([text], [["intro. " + text.upper().replace(" ", ",\n") + " end"]]).tolist() == [1]
    assert seen_shares([text], [[text[: len(text) // 2]]])[0] == pytest.approx(0.4, abs=0.1)
    assert seen_shares([text, "", "short one", "..."], [["other words", "short  one!"]]).tolist() == [0, 0, 1, 0]


def test_accents_written_apart_hide_no_copy() -> None:
    text = " ".join(f"é{i} naïve 가{i} が" for i in range(20))
    apart = unicodedata.normalize("NFD", text)
    assert apart != text and seen_shares([apart], [[text]]).tolist() == seen_shares([text], [[apart]]).tolist() == [1]
    items = Items.of({"exam": [("q", apart)]}, 8)
    for found in ([text], pa.array([f"before {text}", "plain"]), pa.chunked_array([pa.array([apart])])):
        assert leaks(items, [found])[0][0] == 1


def test_runs_do_not_cross_texts() -> None:
    hashes, owner = run_hashes(["a b", "c d e", ""], 3)
    assert owner.tolist() == [0, 1]
    assert len(set(hashes.tolist())) == 2


def test_a_run_of_no_words_is_refused() -> None:
    with pytest.raises(ValueError, match="length"):
        seen_shares(["a"], [["a"]], 0)


def planted(seed: int, count: int = 40) -> tuple[list[str], dict[str, list[tuple[int, str]]], list[str]]:
    """Items of 30 words, texts with one of them planted by the way it was changed, and texts without any."""
    gen = np.random.default_rng(seed)
    vocabulary = [f"word{i}" for i in range(2000)]

    def draw(n: int) -> list[str]:
        return gen.choice(vocabulary, n).tolist()

    items = [draw(30) for _ in range(count)]
    ways = {
        "verbatim": lambda words: " ".join(words),
        "case and punctuation": lambda words: ",\n".join(word.upper() for word in words) + "!",
        "two thirds": lambda words: " ".join(words[:20]),
        "one word in six changed": lambda words: " ".join("other" if k % 6 == 5 else word for k, word in enumerate(words)),
        "a third": lambda words: " ".join(words[20:]),
    }
    texts = {
        way: [(k, " ".join(draw(60)) + ". " + change(item) + " " + " ".join(draw(60))) for k, item in enumerate(items)]
        for way, change in ways.items()
    }
    return [" ".join(item) for item in items], texts, [" ".join(draw(150)) for _ in range(200)]


@pytest.mark.parametrize(("length", "share"), [(8, 0.5), (13, 0.0)])
def test_planted_leaks_are_found_as_far_as_their_runs_stand(length: int, share: float) -> None:
    texts, ways, clean = planted(1)
    items = Items.of({"set": [(f"set:{k}", text) for k, text in enumerate(texts)]}, length)
    found = {}
    for way, documents in ways.items():
        best, which = leaks(items, [[text for _, text in documents[:7]], [], [text for _, text in documents[7:]]], workers=2)
        hit = (best >= share) & (best > 0)
        assert all(which[k] == documents[k][0] for k in np.flatnonzero(hit))
        found[way] = hit.mean()
    assert found["verbatim"] == found["case and punctuation"] == found["two thirds"] == 1
    assert found["one word in six changed"] == 0 == found["a third"]
    best, which = leaks(items, [clean])
    assert best.max() == 0 and set(which.tolist()) == {-1}


def test_shares_equal_plain_sets_of_runs() -> None:
    documents = sample(5, 60)
    texts = [text for text in sample(6, 30) if len(re.findall(r"\w+", text)) >= 2]
    items = Items.of({"set": [(str(k), text) for k, text in enumerate(texts)]}, 2)

    def runs(text: str) -> set[tuple[str, ...]]:
        found = re.findall(r"\w+", text.lower())
        return set(pairwise(found))

    best, which = leaks(items, [documents])
    truth = np.array([[len(runs(item) & runs(text)) / len(runs(item)) for item in texts] for text in documents])
    np.testing.assert_allclose(best, truth.max(axis=1))
    assert all(truth[d, k] == best[d] for d, k in enumerate(which) if k >= 0) and ((which < 0) == (best == 0)).all()


def test_sets_that_hold_nothing_to_look_for_are_refused() -> None:
    with pytest.raises(BadInput, match="decontaminate: exam has no items"):
        Items.of({"exam": []}, 8)
    with pytest.raises(BadInput, match=r"no item of exam has 8 words.*`leak_words`"):
        Items.of({"exam": [("a", "too few words"), ("b", "")]}, 8)
    items = Items.of({"exam": [("a", "too few words"), ("b", "a b c d e f g h")]}, 8)
    assert items.names == ("b",) and items.short == 1 and items.texts == ("a b c d e f g h",)
