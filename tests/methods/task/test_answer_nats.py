"""Nats of answers."""

from __future__ import annotations

import math

import pytest

from bloomery.methods.task.answer_nats import AnswerNats
from bloomery.seams import Episode, Rng

RNG = Rng((0, "task"))


def told(task, items, nats):
    """Each item answered with a log-probability of -nats[i] for every token."""
    rows = []
    for item, each in zip(items, nats, strict=True):
        episode = Episode(item.id, item.id, tokens=tuple(range(item.limit)), logp=(-each,) * item.limit)
        rows.append((item, episode, task.grade(item, episode, None)))
    return rows


def test_nats_per_token_of_all_and_of_each_kind(chats):
    task = AnswerNats(kinds=("body", "docstring"))
    items = list(task.items(chats(), RNG))
    assert all(item.want == "score" and item.messages and item.limit == len(item.target.encode()) for item in items)
    assert {item.kind for item in items} == {"body", "docstring"}
    nats = [2.0 if item.kind == "body" else 1.0 for item in items]
    found = task.summary(told(task, items, nats), RNG)
    sizes = {kind: sum(item.limit for item in items if item.kind == kind) for kind in task.kinds}
    assert found["answer_nats_body"] == pytest.approx(2) and found["answer_nats_docstring"] == pytest.approx(1)
    assert found["answer_nats"] == pytest.approx((2 * sizes["body"] + sizes["docstring"]) / sum(sizes.values()))
    assert set(task.metrics) == {"answer_nats", "answer_nats_body", "answer_nats_docstring"}


def test_tokens_of_the_answer_alone_stand_below_the_line(chats):
    """A model asked in plain text may share a token between question and answer; the figure stays comparable."""
    task = AnswerNats()
    item = next(iter(task.items(chats(), RNG)))
    assert task.grade(item, Episode("a", item.id, logp=(-3.0, -4.0)), None).score == pytest.approx(7 / item.limit)


def test_paired_differences_cancel_what_is_hard_for_both(chats):
    task = AnswerNats(kinds=("body",))
    items = list(task.items(chats(), RNG))
    hard = [1.0 + i % 5 for i in range(len(items))]
    found = task.compare(told(task, items, [x - 0.25 for x in hard]), told(task, items, hard), RNG)
    for end in ("", ".low", ".high"):
        assert math.isclose(found[f"answer_nats{end}"], -0.25, abs_tol=1e-9) and math.isclose(
            found[f"answer_nats_body{end}"], -0.25, abs_tol=1e-9
        )


def test_conversations_that_do_not_fit_are_passed_over_and_the_order_is_seeded(chats):
    every = [item.id for item in AnswerNats().items(chats(10_000), RNG)]
    short = [item.id for item in AnswerNats().items(chats(), RNG)]
    assert len(every) == 24 and len(short) == 21 and [one for one in every if one in short] == short
    assert [item.id for item in AnswerNats(count=5).items(chats(), RNG)] == short[:5]
    assert [item.id for item in AnswerNats().items(chats(), Rng((1,)))] != short


def test_a_count_of_nothing_is_refused():
    with pytest.raises(ValueError, match="count must be at least 1"):
        AnswerNats(count=0)
