"""Conversations split and laid out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bloomery.data.chat import encode
from bloomery.data.chat.read import Conversation
from bloomery.data.chat.template import ChatTemplate
from bloomery.data.shards import Shards
from bloomery.data.tokenizer import learn
from bloomery.seams import Rng

RNG = Rng((0, "split"))


def talk(i: int, package: str = "", answer: str = "yes indeed") -> Conversation:
    return Conversation(f"c{i}", (("user", f"question {i}"), ("assistant", answer)), package=package)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> ChatTemplate:
    folder = tmp_path_factory.mktemp("words")
    learn([f"question {i} yes indeed" for i in range(50)], 280).save(folder)
    return ChatTemplate.load(folder)


def test_packages_stay_on_one_side() -> None:
    every = [talk(i, f"p{i % 7}") for i in range(70)]
    train, held = encode.split(every, 0.3, RNG)
    assert not {one.package for one in train} & {one.package for one in held} and 10 <= len(held) <= 40
    assert sorted(one.id for one in (*train, *held)) == sorted(one.id for one in every)
    assert encode.split(every, 0.3, RNG) == (train, held) and encode.split(every, 0.3, Rng((1,)))[1] != held


def test_without_packages_single_questions_are_drawn_whatever_their_length() -> None:
    every = [talk(i, answer="word " * (1 if i % 2 else 100)) for i in range(400)]
    train, held = encode.split(every, 0.25, RNG)
    assert len(held) == 100 and 30 <= sum(len(one.messages[1][1]) > 10 for one in held) <= 70
    twice = [*every[:10], *(Conversation(f"d{i}", (("user", f"question {i}"), ("assistant", "no"))) for i in range(10))]
    train, held = encode.split(twice, 0.5, RNG)
    assert not {one.messages[0] for one in train} & {one.messages[0] for one in held}, "one question, two answers: both on one side"


@pytest.mark.parametrize(("count", "share"), [(1, 0.5), (5, 0.0)])
def test_nothing_is_held_out_where_nothing_can_or_should_be(count: int, share: float) -> None:
    assert encode.split([talk(i) for i in range(count)], share, RNG)[1] == []


def test_marks_cover_the_answers_and_their_ends_alone(template: ChatTemplate) -> None:
    (laid,), dropped = encode.examples([talk(3)], template, 64, "drop", lambda _: None)
    ids, _ = laid[1]
    weights = encode.trained(laid[1])
    assert not dropped and len(weights) == len(ids)
    first = int(np.flatnonzero(weights)[0])
    assert ids[:first] == template.prompt([("user", "question 3")]) and weights[first:].all() and ids[-1] in template.stops


def test_long_ones_are_dropped_or_cut_and_every_reason_is_counted(template: ChatTemplate) -> None:
    every, told = [talk(0), talk(1, answer="yes indeed " * 40), talk(2)], []
    kept, dropped = encode.examples(every, template, 32, "drop", told.append)
    assert [one.id for one, _ in kept] == ["c0", "c2"] and dropped == {"too long for the context": 1} and told == [1, 1, 1]
    kept, dropped = encode.examples(every, template, 32, "cut", told.append)
    assert [len(ids) for _, (ids, _) in kept][1] == 33 and not dropped
    assert all(stop <= 33 for _, (_, spans) in kept for _, stop, _ in spans)
    kept, dropped = encode.examples(every, template, 4, "cut", told.append)
    assert not kept and dropped == {"no token to train on": 3}


def test_shards_hold_what_was_laid_out(template: ChatTemplate, tmp_path: Path) -> None:
    kept, _ = encode.examples([talk(i) for i in range(5)], template, 64, "drop", lambda _: None)
    encode.write(tmp_path, kept, 280)
    shards = Shards(tmp_path)
    for i, (_, (ids, spans)) in enumerate(kept):
        assert np.array_equal(shards.document(i), ids) and shards.spans(i) == spans
