"""Whether answers are Python."""

from __future__ import annotations

import pytest

from bloomery.methods.task.answer_parses import AnswerParses
from bloomery.seams import Episode, Rng

RNG = Rng((0, "task"))


def test_bodies_are_graded_below_their_signature(chats):
    task = AnswerParses(limit=40)
    items = list(task.items(chats(), RNG))
    assert {item.kind for item in items} == {"body"} and all(item.want == "generate" and item.limit == 40 for item in items)
    item = items[0]
    cases = {
        ("    return 1\n", "stop"): 1, ("    return 1", "stop"): 1, ("    return (1\n", "stop"): 0, ("return 1\n", "stop"): 0,
        ("    a = 1\n    b = 2\n    c = (3 +", "limit"): 1, ("    a = (1", "limit"): 0, ("", "stop"): 0,
    }  # fmt: skip
    for (text, ended), wanted in cases.items():
        grade = task.grade(item, Episode("a", item.id, text, ended=ended), None)
        assert grade.score == wanted, text
        assert grade.parts["real"] == 1


def test_the_summary_has_the_real_bodies_beside_the_model(chats):
    task = AnswerParses(limit=40)
    rows = []
    for i, item in enumerate(task.items(chats(), RNG)):
        episode = Episode("a", item.id, "    pass\n" if i % 2 else "    (", ended="stop")
        rows.append((item, episode, task.grade(item, episode, None)))
    found = task.summary(rows, RNG)
    assert found["answer_parses"] == pytest.approx(sum(i % 2 for i in range(len(rows))) / len(rows))
    assert found["answer_parses@reference text"] == 1


def test_knobs_out_of_range_are_refused():
    with pytest.raises(ValueError, match="keep"):
        AnswerParses(keep=0)
    with pytest.raises(ValueError, match="count and limit"):
        AnswerParses(limit=0)
