"""Answers that follow schemas and grammars, in the engine and by themselves."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_engine import answers, idle
from small_words import llama2

from bloomery.core.errors import BadInput
from bloomery.data.tokenizer import learn
from bloomery.infer import guide as guides
from bloomery.infer.asks import Ask
from bloomery.infer.decoder import Decoder
from bloomery.infer.engine import Engine
from bloomery.infer.guide import Guide, Guides, Vocabulary
from bloomery.infer.model import sampling
from bloomery.infer.speculation import Draft, PromptLookup
from bloomery.infer.spelling import Pieces
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Rng

torch.set_num_threads(1)
WORDS = learn(['{"name": "some words", "size": 12}', "some words and some more words"] * 20, 280).inner
SCHEMA = {
    "type": "object",
    "properties": {"size": {"type": "integer", "minimum": 0, "maximum": 99}, "kind": {"enum": ["one", "two"]}, "sure": {"type": "boolean"}},
    "required": ["size", "kind", "sure"],
    "additionalProperties": False,
}


def vocabulary() -> Vocabulary:
    pieces = Pieces(WORDS)
    special = [i for i, token in WORDS.get_added_tokens_decoder().items() if token.special]
    return Vocabulary([pieces.bytes(i) for i in range(320)], special, lambda text: WORDS.encode(text, add_special_tokens=False).ids)


GUIDES = Guides(vocabulary)


@pytest.fixture(scope="module")
def engine():
    net = Transformer(Config(vocab=320, width=32, layers=2, heads=4, kv_heads=2, ffn=48, context=256), Rng((4,)))
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(6.0) if p.dim() > 1 else None
    with Engine(net.eval(), WORDS, slots=4, queue=20, guides=GUIDES) as engine:
        yield engine


def ask(i: int, **more) -> Ask:
    return Ask(tuple(WORDS.encode("some words").ids), 120, rng=Rng((i, "guide")), stop_ids=frozenset({2}), **more)


def test_every_answer_under_a_schema_is_valid_json(engine):
    guide = Guide.schema(SCHEMA)
    asks = [ask(i, filters=sampling(1.5) if i else (), guide=guide) for i in range(8)]
    found = answers(engine, asks)
    for end in found:
        assert end.reason == "stop", end
        jsonschema.validate(json.loads(end.text), SCHEMA)
        assert list(json.loads(end.text)) == list(SCHEMA["properties"])  # what is to be written first may be what the rest hangs on
    assert len({end.text for end in found}) > 4
    assert [end.text for end in answers(engine, asks[:3])] == [end.text for end in found[:3]]  # a seed decides under a guide too


def test_neighbours_without_a_guide_are_not_touched(engine):
    free = [ask(i, filters=sampling(0.9)) for i in range(3)]
    alone = [end.ids for end in answers(engine, free)]
    mixed = answers(engine, [*free, ask(9, filters=sampling(0.9), guide=Guide("regex", "[0-9]{5}"))])
    assert [end.ids for end in mixed[:3]] == alone and mixed[3].text.isdigit() and len(mixed[3].text) == 5


def spaced() -> Vocabulary:
    words = llama2()
    pieces = Pieces(words)
    return Vocabulary(
        [pieces.bytes(i) for i in range(words.get_vocab_size())], [0, 1, 2], lambda text: words.encode(text, add_special_tokens=False).ids
    )


def test_ids_of_a_text_are_its_bytes_where_a_tokenizer_begins_with_a_space():
    words = spaced()
    for text in ("some words", " some words", '{"a": 日', "", "\n\n", " ", "\x02"):
        ids = words(text.encode())
        assert b"".join(words.tokens[i] for i in ids) == text.encode() and (not text or ids), text
    assert words(b" some words") == llama2().encode("some words", add_special_tokens=False).ids
    few = Vocabulary([b"a", b"ab", b"b c", b"<s>"], [3], lambda text: [2, 9])
    assert few(b"ababb c") == [1, 1, 2] and few(b"a<s>") == [0]  # a tokenizer of another vocabulary: the longest tokens


@pytest.mark.parametrize("guide", [Guide.schema(SCHEMA), Guide.choice([" some", "some", "日 words"]), Guide("regex", " ?[a-z]{3} [0-9]")])
def test_guides_hold_behind_a_tokenizer_that_begins_with_a_space(guide):
    words = llama2()
    net = Transformer(Config(vocab=words.get_vocab_size(), width=32, layers=1, heads=4, kv_heads=2, ffn=48, context=256), Rng((4,)))
    prompts, rngs = [words.encode("some words").ids] * 6, [Rng((i, "spaced")) for i in range(6)]
    for one in Decoder(net.eval(), words, [2], guides=Guides(spaced)).generate(prompts, 120, sampling(1.5), rng=rngs, guide=guide):
        assert one.ended == "stop"
        if guide.kind == "json":
            jsonschema.validate(json.loads(one.text), SCHEMA)
        elif guide.kind == "regex":
            assert re.fullmatch(guide.text, one.text)
        else:
            assert one.text in (" some", "some", "日 words")


def test_log_probabilities_are_those_before_the_guide(engine):
    end = answers(engine, [ask(1, guide=Guide.choice(["some words", "more"]), logprobs=1)])[0]
    assert end.text in ("some words", "more")
    ids = [*WORDS.encode("some words").ids, *end.ids]
    with torch.inference_mode():
        logp = engine.net.logits(engine.net(torch.tensor([ids]))[0, :-1]).log_softmax(-1)
    start = len(ids) - len(end.ids)
    want = [float(logp[start - 1 + k, token]) for k, token in enumerate(end.ids)]
    assert [token.logp for token in end.tokens] == pytest.approx(want, abs=2e-5)


def test_an_answer_that_may_end_ends_with_any_end_token():
    opened = Guides(vocabulary).begin(Guide("regex", "a+"))
    stops = frozenset({2, 5})
    first = opened.allowed(320, stops)
    a = WORDS.token_to_id("a")
    assert first[a] and not first[2] and not first[5]
    assert not opened.take(a)
    after = opened.allowed(320, stops)
    assert after[2] and after[5] and after[a]


@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=4, unique=True), st.data())
@settings(max_examples=30, deadline=None)
def test_a_choice_lets_its_texts_through_and_no_other(texts, data):
    opened = GUIDES.begin(Guide.choice(texts))
    text = data.draw(st.sampled_from(texts))
    for token in WORDS.encode(text, add_special_tokens=False).ids:
        assert opened.allowed(320, frozenset({2}))[token]
        opened.take(token)
    assert opened.matcher.is_accepting()


def test_what_cannot_be_followed_is_a_sentence(monkeypatch):
    opened = Guides(vocabulary)
    for wrong, says in (
        (Guide("grammar", "start: nothing_there"), "the grammar cannot be followed"),
        (Guide("regex", "(("), "the regular expression cannot be followed"),
        (Guide.schema({"type": "nonsense"}), "the JSON schema cannot be followed"),
    ):
        with pytest.raises(BadInput, match=says) as told:
            opened.begin(wrong)
        assert "\n" not in str(told.value)
    monkeypatch.setattr(guides.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="the package llguidance is missing"):
        Guides(vocabulary).begin(Guide("regex", "a"))


def test_an_engine_without_a_library_refuses():
    net = Transformer(Config(vocab=320, width=16, layers=1, heads=2, kv_heads=2, ffn=16, context=32), Rng((4,)))
    with Engine(net, WORDS) as engine, pytest.raises(BadInput, match="without a grammar library"):
        engine.submit([ask(0, guide=Guide("regex", "a"))], [print])


def test_compiled_guides_are_kept_and_only_so_many(monkeypatch):
    monkeypatch.setattr(guides, "KEPT", 2)
    opened = Guides(vocabulary)
    for text in ("a", "b", "c", "b"):
        opened.begin(Guide("regex", text))
    assert [one.text for one in opened._compiled] == ["c", "b"]


def test_the_decoder_follows_guides_as_the_engine_does(engine):
    decoder = Decoder(engine.net, WORDS, [2], guides=engine.guides)
    guide, warm = Guide.schema(SCHEMA), sampling(1.5)
    asks = [ask(i, filters=warm, guide=guide) for i in range(5)]
    found = decoder.generate(["some words"] * 5, 120, warm, rng=[one.rng for one in asks], guide=guide, logp=True)
    assert [(one.text, one.ids, one.ended) for one in found] == [(end.text, end.ids, end.reason) for end in answers(engine, asks)]
    assert all(len(one.logp) == len(one.ids) and max(one.logp) <= 0 for one in found)
    with pytest.raises(BadInput, match="knows no grammar library"):
        Decoder(engine.net, WORDS).generate(["x"], guide=guide)


def test_an_answer_under_a_guide_beside_drafted_ones_follows_it(engine):
    """Others are guessed ahead, it is not."""
    guide, warm = Guide.schema(SCHEMA), sampling(1.5)
    asks = [ask(i, filters=warm, guide=guide if i % 2 else None) for i in range(4)]
    with Engine(engine.net, WORDS, slots=4, queue=4, guess=Draft(engine.net), guides=GUIDES) as drafting:
        found = answers(drafting, asks)
        assert drafting.batch.guessed > 0
    for end in found[1::2]:
        assert end.reason == "stop", end
        jsonschema.validate(json.loads(end.text), SCHEMA)


@pytest.mark.parametrize("guess", [None, PromptLookup(), Draft])
def test_a_guide_that_fails_in_the_midst_fails_alone(engine, monkeypatch, guess):
    """Its library may find after any token that a grammar is too large."""
    real, calls = guides.Guided.allowed, []

    def failing(self, vocab, stops):
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("too large")
        return real(self, vocab, stops)

    asks = [ask(0), ask(1, guide=Guide("regex", "[0-9]{30}")), ask(2, filters=sampling(0.9))]
    with Engine(engine.net, WORDS, slots=4, queue=4, guess=Draft(engine.net) if guess is Draft else guess, guides=GUIDES) as other:
        want = answers(other, asks)
        monkeypatch.setattr(guides.Guided, "allowed", failing)
        found = answers(other, asks)
        assert idle(other) and other.slots.book.held == 0
    assert (found[1].reason, found[1].error) == ("failed", "RuntimeError in the guide: too large") and len(found[1].ids) == 3
    assert [(end.reason, end.ids) for end in found[::2]] == [(end.reason, end.ids) for end in want[::2]]


def test_a_compiled_guide_does_not_wait_for_one_that_is_being_compiled(monkeypatch):
    opened, known = Guides(vocabulary), Guide("regex", "a")
    opened.begin(known)
    real = opened._compile

    with ThreadPoolExecutor(1) as pool:

        def compiling(guide):
            assert pool.submit(opened.begin, known).result(20)
            return real(guide)

        monkeypatch.setattr(opened, "_compile", compiling)
        assert opened.begin(Guide("regex", "b")).allowed(320, frozenset()).any()
