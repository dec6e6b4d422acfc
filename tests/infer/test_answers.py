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


def test_a_prompt_too_long_for_what_is_scored_loses_its_beginning_and_says_so(examinee) -> None:
    """The answer is read after the whole of the context, not in a piece of its own."""
    long, short = Item("l", "one two three\n" * 40, "score", " return"), Item("s", "one", "score", " return")
    (found, fits), context = examinee.answers([long, short], (), RNG), examinee.model.context
    ids, start = examinee.document(long)
    whole = [examinee.begin, *examinee.tokenizer.encode(long.prompt), *examinee.tokenizer.encode(long.target), examinee.end]
    assert len(ids) - 1 == context and ids == whole[-context - 1 :] and found.dropped == len(whole) - len(ids) > 0
    logits = examinee.model.logits(ids[:-1]).log_softmax(-1)
    wanted = [float(logits[place - 1, ids[place]]) for place in range(start, len(ids))]
    np.testing.assert_allclose(found.episode.logp, wanted, atol=1e-5)
    assert fits.dropped == 0 and found.prompt_tokens == start
    beyond = Item("b", "one two", "score", "one two three\n" * 40)
    ids, start = examinee.document(beyond)
    assert start == 1 and ids[1:-1] == examinee.tokenizer.encode(beyond.target), "a target beyond the context is read in pieces"


def test_tokens_are_drawn_in_the_place_of_each_of_the_targets_own(examinee) -> None:
    item = Item("d", "def f(", "score", "x):\n    return one", draws=400)
    (answer,) = examinee.answers([item], (), RNG)
    drawn = np.array(answer.episode.drawn)
    assert drawn.shape == (400, len(answer.episode.logp)) and (drawn < 0).all()
    ids, start = examinee.document(item)
    logp = examinee.model.logits(ids[:-1]).log_softmax(-1)[start - 1 :]
    entropy = -(logp.exp() * logp).sum(-1).numpy()
    spread = ((logp.exp() * logp**2).sum(-1).numpy() - entropy**2) ** 0.5
    assert (np.abs(-drawn.mean(0) - entropy) < 5 * spread / 20 + 1e-6).all(), "the mean of what is drawn is the entropy"
    again = examinee.answers([Item("a", "", "score", "one"), item], (), RNG)[1]
    assert again.episode.drawn == answer.episode.drawn != examinee.answers([item], (), RNG.child("other"))[0].episode.drawn
    assert examinee.answers([Item("n", "", "score", "one")], (), RNG)[0].episode.drawn == ()


def test_what_is_drawn_beyond_the_context_is_drawn_in_pieces(examinee) -> None:
    ids = [1, *[5 + k % 40 for k in range(150)]]
    found, context = examinee.model.drawn(ids, 3, RNG), examinee.model.context
    assert found.shape == (3, 150) and context == 64
    np.testing.assert_allclose(found[:, :context], examinee.model.drawn(ids, 3, RNG)[:, :context])
