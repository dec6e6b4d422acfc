"""llama.cpp as an engine: the same file, the same numbers, many at a time."""

import threading
import time

import pytest
import torch
from small_engine import answers

from bloomery.core.errors import BadInput
from bloomery.data.chat.template import ChatTemplate
from bloomery.data.tokenizer import learn
from bloomery.infer import llama_words
from bloomery.infer.asks import Ask, Full
from bloomery.infer.engines import open_engine
from bloomery.infer.guide import Guide
from bloomery.infer.llama_words import GgufModel
from bloomery.infer.model import sampling
from bloomery.nn import gguf
from bloomery.nn.config import Config
from bloomery.nn.gguf_words import read_words
from bloomery.nn.model import Transformer
from bloomery.seams import Rng

torch.set_num_threads(1)
TEMPLATE = (
    "{{ bos_token }}{% if tools %}[tools]{{ tools | tojson }}{% endif %}{% for m in messages %}[{{ m.role }}]{{ m.content }}"
    "{{ eos_token if m.role == 'assistant' }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
PROMPTS = ["some words", "def f(", "x", "return some more words and more words and some", "words " * 9, "1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a GGUF file, the words it was made from, and the network itself."""
    pytest.importorskip("llama_cpp")
    folder = tmp_path_factory.mktemp("gguf")
    words = folder / "words"
    words.mkdir()
    learn(["def f(x):\n    return x + 1\n", "some words and some more words"] * 20, 280).save(words)
    (words / "chat_template.jinja").write_text(TEMPLATE)
    cfg = Config(vocab=300, width=64, layers=2, heads=4, kv_heads=2, ffn=96, context=128)
    net = Transformer(cfg, Rng((7,)))
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(5.0) if p.dim() > 1 else None
    (folder / "out").mkdir()
    gguf.write(folder / "out" / "model.gguf", cfg, gguf.contents(net, {}, "F32", "F32"), read_words(words, 300), "F32", "tiny")
    return folder / "out", words, net.eval()


@pytest.fixture(scope="module")
def opened(made):
    found = open_engine(made[0])
    yield found
    found.close()


@pytest.fixture(scope="module")
def engine(opened):
    with opened.start(3, 20, True) as engine:
        yield engine


def calm(engine) -> bool:
    """Whether nothing is left in the context; the last seat is left after its end was told."""
    deadline = time.monotonic() + 10
    while engine._seats and time.monotonic() < deadline:
        time.sleep(0.005)
    return not engine._seats


def test_it_says_what_it_is(opened, engine):
    assert (opened.engine, opened.why, opened.name) == ("llama.cpp", "model.gguf is a file for it", "out")
    assert engine.kind == "llama.cpp" and "3 slots of 128 tokens" in engine.told and engine.context == 128


def test_greedy_answers_are_our_nets(opened, engine, made):
    net = made[2]
    asks = [Ask(tuple(opened.tokenizer.encode(p).ids), 20 + i, logprobs=2, echo=True) for i, p in enumerate(PROMPTS)]
    for ask, end in zip(asks, answers(engine, asks), strict=True):
        ids = [*ask.prompt, *end.ids]
        with torch.inference_mode():
            logp = net.logits(net(torch.tensor([ids])))[0].log_softmax(-1)
        told = [*end.prompt, *end.tokens]
        assert [token.id for token in told] == ids and len(end.ids) == ask.limit
        for at, token in enumerate(told[1:]):
            assert token.logp == pytest.approx(float(logp[at, token.id]), abs=0.02)  # keys and values are fp16 there
            best = logp[at].topk(2)
            assert token.top[0][1] == pytest.approx(float(best.values[0]), abs=0.02)
        for at, token in enumerate(end.ids):
            row = logp[len(ask.prompt) - 1 + at]
            assert float(row.max() - row[token]) < 0.02
        assert end.text == opened.tokenizer.decode(end.ids)


def test_more_than_the_slots_and_prompts_in_portions(opened, engine, monkeypatch):
    asks = [Ask(tuple(opened.tokenizer.encode(p).ids), 12, sampling(0.8), Rng((i, "x"))) for i, p in enumerate(PROMPTS * 2)]
    whole = [len(end.ids) for end in answers(engine, asks)]
    monkeypatch.setattr("bloomery.infer.llama_engine.PORTION", 5)
    again = answers(engine, asks)
    assert whole == [12] * 12 and [len(end.ids) for end in again] == whole and calm(engine)
    alone = [answers(engine, [asks[0]])[0].ids for _ in range(2)]
    assert alone[0] == alone[1]


def test_short_prompts_pass_a_long_one(opened, monkeypatch):
    monkeypatch.setattr("bloomery.infer.llama_engine.PORTION", 16)
    engine, begun = opened.start(5, 0, True), []
    try:
        for length in (80, 6, 6, 6, 6):
            engine._waiting.append(engine._job(Ask((5,) * length, 1), lambda event, length=length: begun.append(length)))
        for _ in range(4):  # by hand, so that no thread's pace counts
            engine._turn()
        assert begun == [6] * 4
        for _ in range(3):
            engine._turn()
        assert begun[4:] == [80]
    finally:
        engine.close()


def test_guides_stops_and_reading_alone(opened, engine):
    prompt = tuple(opened.tokenizer.encode("some words").ids)
    found = answers(engine, [Ask(prompt, 30, sampling(1.0), guide=Guide("regex", "[0-9]{4}")), Ask(prompt, 0, logprobs=0, echo=True)])
    assert found[0].text.isdigit() and len(found[0].text) == 4
    assert (found[1].ids, found[1].reason, len(found[1].prompt)) == ((), "limit", len(prompt))


def test_cancelling_frees_and_a_full_line_refuses(opened):
    prompt = tuple(opened.tokenizer.encode("some").ids)
    heard, ends = threading.Event(), []
    with opened.start(1, 1, True) as engine:
        jobs = engine.submit([Ask(prompt, 100, live=True)] * 2, [lambda event: heard.set(), ends.append])
        with pytest.raises(Full):
            engine.submit([Ask(prompt, 1)], [print])
        assert heard.wait(20)
        engine.cancel(jobs[0])
        assert len(answers(engine, [Ask(prompt, 3)])[0].ids) == 3
        assert jobs[1].ended and not jobs[0].ended
    with pytest.raises(RuntimeError, match="does not run"):
        engine.submit([Ask(prompt, 1)], [print])


def test_a_failing_batch_fails_its_requests_and_the_engine_goes_on(opened, engine, monkeypatch, capfd):
    prompt = tuple(opened.tokenizer.encode("some").ids)
    real, calls = engine._decode, []

    def failing(parts):
        calls.append(1)
        if len(calls) == 3:
            raise ZeroDivisionError("a bug")
        return real(parts)

    monkeypatch.setattr(engine, "_decode", failing)
    end = answers(engine, [Ask(prompt, 20)])[0]
    assert end.reason == "failed" and "ZeroDivisionError" in end.error
    monkeypatch.undo()
    assert len(answers(engine, [Ask(prompt, 5)])[0].ids) == 5 and "a bug" in capfd.readouterr().err


def test_words_are_those_of_the_tokenizer_and_its_template(opened, made):
    template, inner = ChatTemplate.load(made[1]), opened.tokenizer
    from bloomery.infer.model import read_tokenizer

    theirs = read_tokenizer(made[1])
    for text in ("", "naïve 👩‍👩‍👧", "a <|eos|> b", "return x + 1\n\n", "x" * 300):
        assert inner.encode(text).ids == theirs.encode(text).ids
        assert inner.decode(inner.encode(text).ids) == theirs.decode(theirs.encode(text).ids)
        assert inner.encode_batch([text, "x"])[0].ids == theirs.encode(text).ids
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
    for messages in ([("user", "some <|eos|> words")], [("system", "a"), ("user", "b"), ("assistant", "c"), ("user", "d")]):
        assert opened.template.prompt(messages) == template.prompt(messages)
        assert opened.template.prompt(messages, tools) == template.prompt(messages, tools)
        assert opened.template.render(messages, True) == template.render(messages, True)
    assert opened.stops == frozenset(inner.ends) and theirs.token_to_id("<|eos|>") in opened.stops
    names = [opened.pieces.name(i) for i in range(280)]
    assert len(set(names)) > 270 and opened.pieces.bytes(opened.special["<|eos|>"]) == b"<|eos|>"


def test_a_template_that_leaves_tools_out_is_refused(made, opened):
    plain = llama_words.GgufTemplate("{% for m in messages %}{{ m.content }}{% endfor %}", opened.tokenizer)
    with pytest.raises(BadInput, match="does not write tools"):
        plain.prompt([("user", "a")], [{"type": "function", "function": {"name": "look_up"}}])


def test_what_cannot_be_opened(tmp_path, monkeypatch):
    pytest.importorskip("llama_cpp")
    with pytest.raises(BadInput, match="there is no file"):
        GgufModel(tmp_path / "x.gguf")
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(BadInput, match=r"llama\.cpp does not load .*x\.gguf"):
        GgufModel(tmp_path / "x.gguf")
    monkeypatch.setattr(llama_words, "installed", lambda: False)
    with pytest.raises(BadInput, match="the package llama_cpp is missing"):
        GgufModel(tmp_path / "x.gguf")
