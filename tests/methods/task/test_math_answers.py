"""Answers compared by value."""

from __future__ import annotations

import signal
import time

import pytest

pytest.importorskip("math_verify", reason="math-verify is not installed: pip install -c constraints.txt 'bloomery[math]'")

from bloomery.core.errors import BadInput
from bloomery.methods.task import math_answers
from bloomery.methods.task.math_answers import Late, MathAnswers, equal, final, within
from bloomery.seams import Episode, Rng, Source

RNG = Rng((0, "task"))


@pytest.mark.parametrize(
    ("wanted", "said", "score"),
    [
        ("1/2", "so it is 0.5.", 1), ("\\frac{1}{2}", "The answer is $\\frac{2}{4}$.", 1), ("42", "first 41, then 42", 1),
        ("42", "42 or 43", 0),
        ("42", "Answer: 42\nProblem 7", 1), ("1000", "#### 1,000", 1), ("x+1", "We get \\boxed{1 + x}.", 1), ("x+1", "\\boxed{x-1}", 0),
        ("(x+1)^2", "\\boxed{x^2+2x+1}", 1), ("-3", "answer is -3", 1), ("-3", "answer is 3", 0), ("7", "", 0), ("7", "seven", 0),
        ("how many? #### 72", "she has 72", 1), ("\\sqrt{8}", "$2\\sqrt{2}$", 1), ("2", "__import__('os').abort()", 0),
    ],
)  # fmt: skip
def test_equal_as_mathematics(wanted, said, score):
    task = MathAnswers()
    item = next(task.items(Source(questions={"q": [{"problem": "?", "answer": wanted}]}), RNG))
    assert task.grade(item, Episode("a", item.id, said), None).score == score


def test_the_last_answer_of_a_reply_counts():
    assert final("The answer is 3. No, the answer is 4, I think") == "$4$"
    assert final("no number") == "" and final("7, then 8") == "$8$" and final("answer: x + y.") == "$x + y$"


def test_whether_there_was_an_answer_is_told_apart_from_a_wrong_one():
    item = next(MathAnswers().items(Source(questions={"q": [{"problem": "?", "answer": "2"}]}), RNG))
    parts = [MathAnswers().grade(item, Episode("a", item.id, said), None).parts["said"] for said in ("3", "no idea")]
    assert parts == [1.0, 0.0]


def test_a_reference_that_is_no_mathematics_is_refused():
    with pytest.raises(BadInput, match="q:0: the answer ''"):
        list(MathAnswers().items(Source(questions={"q": [{"problem": "?", "answer": ""}]}), RNG))


@pytest.mark.parametrize(
    ("wanted", "said", "score"),
    [
        ("18", "She sells 9 eggs at $2, so she makes $18.", 1), ("18", "It costs $5 and then $13. The answer is $18.", 1),
        ("18", "$5-$7 is no answer, the answer is 18", 1), ("3x+2", "The answer is 3x+2.", 1), ("3", "The answer is 3x+2.", 0),
        ("(1,2)", "answer: (1, 2)", 1), ("12", "Answer: 12 apples", 1), ("1234567", "#### 1,234,567", 1), ("5", "answer: x = 5", 1),
        ("x+1", "so $x$ plus one is $x+1$", 1), ("0.5", "the answer is 1/2", 1), ("7", "Answer: seven", 0),
    ],
)  # fmt: skip
def test_amounts_are_numbers_and_expressions_are_whole(wanted, said, score):
    task = MathAnswers()
    item = next(task.items(Source(questions={"q": [{"problem": "?", "answer": wanted}]}), RNG))
    assert task.grade(item, Episode("a", item.id, said), None).score == score


def test_time_is_that_of_the_processor_and_what_takes_longer_is_not_equal(monkeypatch):
    with within(0.2):
        time.sleep(0.3)
    with pytest.raises(Late), within(0.05):
        while True:
            pass
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0) and equal("$1$", "$1$")

    def endless(*_, **__):
        while True:
            pass

    monkeypatch.setattr(math_answers, "LIMIT_S", 0.05)
    monkeypatch.setattr("math_verify.verify", endless)
    assert not equal("$1$", "$1$")
