"""Choices by likelihood."""

from __future__ import annotations

import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.task.multiple_choice import MultipleChoice
from bloomery.seams import Episode, Rng, Source

RNG = Rng((0, "task"))
ROWS = [
    {"question": "Red?", "choices": ["yes", "certainly not"], "answer": 0, "group": "a"},
    {"question": "Blue?", "choices": ["no", "it is so"], "answer": "it is so", "group": "b"},
]


def answered(task: MultipleChoice, logps: dict[str, float]) -> list:
    """Every answer with the log-probability of its two tokens together, and an end token that must not count."""
    rows = []
    for item in task.items(Source(questions={"q": ROWS}), RNG):
        half = logps[item.target] / 2
        episode = Episode(item.id, item.id, logp=(half, half, -99.0))
        rows.append((item, episode, task.grade(item, episode, None)))
    return rows


def test_the_likeliest_answer_counts_as_a_whole_and_by_length():
    task = MultipleChoice()
    rows = answered(task, {" yes": -3.0, " certainly not": -4.0, " no": -2.0, " it is so": -3.0})
    found = task.summary(rows, RNG)
    assert found["choice_accuracy"] == 0.5 and found["choice_accuracy.n"] == 2, "yes and no are likeliest, and one is right"
    assert found["choice_accuracy_by_length"] == 0.5, "per byte: -1 -0.31 | -1 -0.38, so the long ones"
    assert rows[0][0].prompt == "Red?\nAnswer:" and rows[0][2].score == -3.0 and rows[0][2].parts["nats"] == 102.0
    better = answered(task, {" yes": -3.0, " certainly not": -4.0, " no": -4.0, " it is so": -3.0})
    assert task.compare(better, rows, RNG)["choice_accuracy"] == 0.5


def test_questions_of_which_an_answer_is_left_out_say_nothing():
    task = MultipleChoice()
    rows = answered(task, {" yes": -3.0, " certainly not": -4.0, " no": -2.0, " it is so": -3.0})
    assert task.summary(rows[1:], RNG)["choice_accuracy.n"] == 1
    assert task.summary(rows[:1], RNG) == {}


@pytest.mark.parametrize("answer", [2, -1, "maybe", True, None])
def test_an_answer_that_is_none_of_the_choices_is_refused(answer):
    with pytest.raises(BadInput, match="q:0: answer"):
        list(MultipleChoice().items(Source(questions={"q": [{**ROWS[0], "answer": answer}]}), RNG))


def test_a_number_that_may_be_a_choice_or_its_place_is_refused():
    row = {"question": "1 + 1?", "choices": [1, 2, 3], "answer": 2}
    with pytest.raises(BadInput, match="write the choices as text"):
        list(MultipleChoice().items(Source(questions={"q": [row]}), RNG))
    for change, right in (({"choices": ["1", "2", "3"], "answer": "2"}, 1), ({"answer": 0}, 0), ({"choices": [3, 1, 2]}, 2)):
        items = MultipleChoice().items(Source(questions={"q": [{**row, **change}]}), RNG)
        assert [item.kind for item in items].index("right") == right


def test_files_and_forms():
    source = Source(questions={"q": ROWS, "other": [{"text": "x"}]})
    assert len(list(MultipleChoice(count=1).items(source, RNG))) == 2
    assert next(
        MultipleChoice(file="q", form="{question} {x}").items(Source(questions={"q": [{**ROWS[0], "x": "{question}"}]}), RNG)
    ).prompt == ("Red? {question}")
    with pytest.raises(BadInput, match="did you mean other"):
        list(MultipleChoice(file="othr").items(source, RNG))
    with pytest.raises(BadInput, match="has no 'question'"):
        list(MultipleChoice(file="other").items(source, RNG))
    assert list(MultipleChoice().items(Source(), RNG)) == []


def test_length_is_that_of_the_answer_without_the_space_before_it_as_in_lm_eval():
    """-1 / 1 byte is below -1.9 / 2 bytes; with a space each it would be the other way round."""
    np = pytest.importorskip("numpy")
    row = {"question": "?", "choices": ["a", "bé"], "answer": 1}
    task, rows = MultipleChoice(), []
    lls = np.array([-1.0, -2.6])
    for item, logp in zip(task.items(Source(questions={"q": [row]}), RNG), lls, strict=True):
        rows.append((item, None, task.grade(item, Episode("e", "e", logp=(logp, -9.0)), None)))
    theirs = np.argmax(lls / np.array([float(len(one.encode("utf-8"))) for one in row["choices"]]))
    assert task.summary(rows, RNG)["choice_accuracy_by_length"] == float(theirs == 1) == 1
    assert task.summary(rows, RNG)["choice_accuracy"] == 0 and task.rights(rows) == ([0.0], ["q:0"])
    assert rows[0][0].question == "q:0"
    empty = MultipleChoice().grade(rows[0][0].__class__("q/0", "", "score", " "), Episode("e", "e", logp=(-1.0, 0.0)), None)
    assert empty.parts["per_byte"] == -1.0
