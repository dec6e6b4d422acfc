"""Measures of likeness, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rouge_score")

from bloomery.data.likeness import classified, code_likeness, counted, likeness, rouge_l, token_f1, words

SOME = st.text(alphabet="ab c.红", max_size=12)


@pytest.mark.parametrize(
    ("reply", "answer", "score"),
    [
        ("The Red House", "red house", 1), ("a red, RED house!", "red house", 0.8), ("blue", "red", 0), ("", "red", 0), ("the", "the", 0),
        ("红 房子", "红房子", 1), ("红房", "红房子", 0.8), ("I do not know which house", "red house", 2 / 8),
    ],
)  # fmt: skip
def test_exact_token_f1(reply, answer, score):
    assert token_f1(reply, answer) == pytest.approx(score)


def test_exact_rouge_l():
    assert rouge_l("the cat sat on a mat", "the cat on the mat") == pytest.approx(2 * 4 / 11)
    assert rouge_l("", "a b") == 0 and rouge_l("同 天", "天同") == pytest.approx(0.5) and rouge_l("A B!", "a b") == 1


@pytest.mark.parametrize(
    ("reply", "score"),
    [("city", 1), ("It is a city", 1), ("city or state", 0.5), ("city, state, other city", 1 / 3), ("state", 0), ("", 0), ("none", 0)],
)
def test_exact_classes_that_are_all_named_share_the_score(reply, score):
    assert classified(reply, "other city" if "other" in reply else "city", ["city", "state", "other city"]) == pytest.approx(
        score if "other" not in reply else 0.5
    )


@pytest.mark.parametrize(("reply", "score"), [("7", 1), ("Paragraph 7.", 1), ("7 or 8", 0.5), ("17", 0), ("seven", 0), ("", 0)])
def test_exact_numbers(reply, score):
    assert counted(reply, "Paragraph 7") == score


def test_exact_code_is_the_first_line_that_is_code():
    assert code_likeness("```python\n# a comment\n\n    return x\nmore", "    return x") == 1
    assert code_likeness("", "return x") == 0 and code_likeness("return y", "return x") == pytest.approx(0.88)


@given(SOME, SOME)
def test_property_every_measure_lies_between_0_and_1_and_is_1_for_the_answer(reply, answer):
    for measure in ("f1", "rouge", "number", "code"):
        assert 0 <= likeness(measure, reply, [answer]) <= 1
    if words(answer):
        assert token_f1(answer, answer) == pytest.approx(1) == likeness("f1", answer, ["zz", answer])
