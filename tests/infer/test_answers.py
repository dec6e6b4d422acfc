"""Answers to items: framing, order, strings that look like special tokens, and the journal's form."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.data.tokenizer import learn
from bloomery.infer.answers import Examinee, begin_and_end, graded, kept
from bloomery.infer.model import load
from bloomery.infer.speed import speeds
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.saving import save
from bloomery.seams import Grade, Item, Rng

RNG = Rng((1, "answers"))
ITEMS = [
    Item("a", "", "score", "def f(x): <|eos|>"),
    Item("b", "one two", "generate", "", limit=5),
    Item("c", "def f(", "score", "x):\n"),
    Item("d", "three", "generate", "", limit=3),
    Item("e", "one", "generate", "", limit=5),
]


@pytest.fixture(scope="module")
def examinee(tmp_path_factory) -> Examinee:
    folder = tmp_path_factory.mktemp("model")
    learn(["def f(x):\n    return one two three\n" * 9] * 9, 270).save(folder)
    save(Transformer(Config(270, 16, 1, 2, 1, 24, 64)), folder)
    return Examinee(load(folder))


def test_answers_come_in_the_order_of_items_and_do_not_depend_on_company(examinee) -> None:
    found = examinee.answers(ITEMS, (), RNG)
    assert [answer.episode.item for answer in found] == ["a", "b", "c", "d", "e"]
    for item, answer in zip(ITEMS, found, strict=True):
        alone = examinee.answers([item], (), RNG)[0]
        assert alone.episode.tokens == answer.episode.tokens
        np.testing.assert_allclose(alone.episode.logp, answer.episode.logp, atol=1e-5)


def test_scored_are_the_target_and_the_end_token_given_the_prompt(examinee) -> None:
    ids, start = examinee.document(ITEMS[2])
    answer = examinee.answers([ITEMS[2]], (), RNG)[0]
    assert (ids[0], ids[-1]) == (1, 2)
    assert answer.episode.tokens == tuple(ids[start:])
    np.testing.assert_allclose(answer.episode.logp, examinee.model.score([ids])[0][start - 1 :], atol=1e-6)


def test_special_strings_in_text_are_text(examinee) -> None:
    ids, _ = examinee.document(ITEMS[0])
    assert ids.count(2) == 1
    assert examinee.tokenizer.decode(ids[1:-1]) == ITEMS[0].target


def test_what_is_kept_gives_the_grade_back(examinee) -> None:
    for item, answer in zip(ITEMS, examinee.answers(ITEMS, (), RNG), strict=True):
        row = kept(item, answer, Grade(0.5, {"x": 1.0}))
        _, episode, grade = graded(item, row)
        assert (grade.score, grade.parts, episode.text) == (0.5, {"x": 1.0}, answer.episode.text)
        assert row["tokens"] == len(answer.episode.tokens)


def test_a_model_without_an_end_token_is_refused() -> None:
    assert begin_and_end({"eos_token": 7}) == (7, 7)
    assert begin_and_end({"bos_token": 1, "eos_token": 7}) == (1, 7)
    with pytest.raises(BadInput, match="tokenizer_config"):
        begin_and_end({"pad_token": 0})


def test_speeds_are_positive_for_any_batch(examinee) -> None:
    found = speeds(examinee.model.decoder, [5, 6, 7], batch=3, repeats=1, new=4)
    assert found["prompt"] > 0 and found["decode"] > 0
    assert (found["prompt_tokens"], found["new_tokens"]) == (32, 4)


def test_in_plain_text_only_what_holds_something_of_the_answer_is_scored(tmp_path):
    from bloomery.data.tokenizer import learn
    from bloomery.infer.answers import PlainTokenizer

    tokenizer = PlainTokenizer(learn(["What is it)\n\nIt is 5.\n    return x\n"] * 9, 275).inner)
    for prompt, answer in (("What is it)\n\n", "It is 5."), ("def f(x):\n", "    return x"), ("", "It")):
        ids, first = tokenizer.encode_from(prompt + answer, len(prompt))
        assert answer in tokenizer.decode(ids[first:]) and answer not in tokenizer.decode(ids[first + 1 :])
        assert tokenizer.decode(ids[:first]) + tokenizer.decode(ids[first:]) == prompt + answer
        assert len(tokenizer.decode(ids[first:])) - len(answer) <= 1, "nothing of the question but what shares a token with the answer"
