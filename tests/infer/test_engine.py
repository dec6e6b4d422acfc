import threading
from collections import deque

import pytest
import torch
from small_engine import PROMPTS, SEED, WARM, WORDS, Listener, ask, asks_of, idle, make, run

from bloomery.core.errors import BadInput
from bloomery.infer import batch as batches
from bloomery.infer.asks import Ask, End, Full, Job, Piece, Token, TooLong
from bloomery.infer.batch import Batch
from bloomery.infer.decoder import Decoder
from bloomery.infer.delivery import Delivery
from bloomery.infer.engine import Engine
from bloomery.infer.model import sampling
from bloomery.infer.score import log_probabilities
from bloomery.infer.spelling import Spelling
from bloomery.infer.weights import pack

torch.set_num_threads(1)
NET = make()
DECODER = Decoder(NET, WORDS, [2])


@pytest.mark.parametrize("filters", [(), WARM], ids=["greedy", "sampled"])
def test_company_changes_nothing_and_the_decoder_gives_the_same(filters):
    with Engine(NET, WORDS, slots=3, queue=20) as engine:
        together = [one.end() for one in run(engine, asks_of(filters))]
        alone = [run(engine, [one])[0].end() for one in asks_of(filters)]
        assert [one.ids for one in together] == [one.ids for one in alone]
        assert [(one.text, one.reason) for one in together] == [(one.text, one.reason) for one in alone]
        mixed = [one for pair in zip(asks_of(filters), asks_of(sampling(0.7)), strict=True) for one in pair]
        assert [one.end().ids for one in run(engine, mixed)][::2] == [one.ids for one in alone]
        assert idle(engine)
    for i, one in enumerate(together):
        want = DECODER.generate([""] * i + [PROMPTS[i]], 10 + 5 * i, filters, ["e", "xy"], SEED, rows=1)[i]
        assert (one.text, one.ids, one.reason) == (want.text, want.ids, want.ended)
    assert {one.reason for one in together} == {"stop", "limit"}


@pytest.mark.parametrize("weights", ["bf16", "int8", "w8a8", "int4", "w4a8", "int8 wide", "w8a8 wide", "int4 wide", "w4a8 wide"])
def test_packed_weights_are_free_of_company_too(weights):
    """Sixteen at once, and each of them alone, have the same log-probabilities to the last bit."""
    net = make(vocab=320, width=64, ffn=64).bfloat16()
    pack(net, weights.partition(" ")[0], wide="wide" in weights)
    with Engine(net, WORDS, slots=16, queue=20) as engine:
        together = [one.end() for one in run(engine, [*asks_of(()), *asks_of(WARM)])]
        alone = [run(engine, [one])[0].end() for one in [*asks_of(()), *asks_of(WARM)]]
    assert [one.tokens for one in together] == [one.tokens for one in alone] and any(one.tokens for one in alone)


def test_pieces_joined_are_the_text_and_hold_no_stop_string():
    asked = asks_of(WARM, live=True, stop=("re", "e x", "(("))
    with Engine(NET, WORDS, slots=4, queue=20) as engine:
        for one in run(engine, asked):
            *pieces, end = one.events
            assert "".join(piece.text for piece in pieces) == end.text and all(piece.text for piece in pieces)
            assert not any(word in end.text for word in ("re", "e x", "(("))
            told = [token for piece in pieces for token in piece.tokens]
            assert told == list(end.tokens[: len(told)]) and len(end.tokens) - len(told) <= 1
        assert len(pieces) > 3


@torch.inference_mode()
def test_log_probabilities_are_those_of_the_model():
    prompt = "return some more words" * 3
    with Engine(NET, WORDS) as engine:
        end = run(engine, [ask(prompt, limit=12, logprobs=4, echo=True, filters=WARM)])[0].end()
        read = run(engine, [ask(prompt, limit=0, logprobs=0, echo=True)])[0].end()
    ids = [*WORDS.encode(prompt).ids, *end.ids]
    want = torch.from_numpy(log_probabilities(NET, [ids])[0])
    told = [*end.prompt, *end.tokens]
    assert [token.id for token in told] == ids and told[0].logp is None
    torch.testing.assert_close(torch.tensor([token.logp for token in told[1:]]), want, rtol=0, atol=2e-5)
    best = NET.logits(NET(torch.tensor([ids]))[0, :-1]).log_softmax(-1).topk(4)
    for token, indices, values in zip(told[1:], best.indices, best.values, strict=True):
        assert [one for one, _ in token.top] == indices.tolist()
        torch.testing.assert_close(torch.tensor([logp for _, logp in token.top]), values, rtol=0, atol=2e-5)
    assert (read.text, read.ids, read.reason) == ("", (), "limit") and all(not token.top for token in read.prompt)
    assert [token.id for token in read.prompt] == WORDS.encode(prompt).ids


def test_a_last_token_without_text_is_told_and_one_after_a_stop_string_is_not():
    x, y = WORDS.encode("x1").ids[-2:]
    for ids, stop, told in (([x, 1], (), 2), ([x, 2], (), 2), ([x, y], ("1",), 1)):
        heard: list[End] = []
        job = Job(Ask((9,), 2, stop=stop, stop_ids=frozenset({2}), logprobs=0), 2, heard.append, Spelling(WORDS, stop))
        for token in ids:
            Delivery().take(job, Token(token, 0, -1.0), "")
        assert [token.id for token in heard[-1].tokens] == ids[:told], ids


def test_a_prompt_read_in_portions_gives_the_same(monkeypatch):
    with Engine(NET, WORDS) as engine:
        whole = run(engine, asks_of(WARM))
        monkeypatch.setattr(batches, "CHUNK", 7)
        monkeypatch.setattr(batches, "HEAD_ROWS", 3)
        parts = run(engine, asks_of(WARM))
        echoed = run(engine, [ask(PROMPTS[3], limit=0, echo=True)])[0].end()
    assert [one.end().ids for one in whole] == [one.end().ids for one in parts]
    want = log_probabilities(NET, [WORDS.encode(PROMPTS[3]).ids])[0].tolist()
    assert [token.logp for token in echoed.prompt[1:]] == pytest.approx(want, abs=2e-5)


@pytest.mark.parametrize("exact", [True, False])
def test_short_prompts_pass_a_long_one_which_is_read_all_the_same(exact, monkeypatch):
    monkeypatch.setattr(batches, "CHUNK", 8)
    monkeypatch.setattr(batches, "PORTION", 16)
    begun: list[int] = []  # lengths of prompts, in the order in which their answers begin

    class Firsts(Delivery):
        def take(self, job, token, wrong):
            begun.append(len(job.ask.prompt))
            super().take(job, token, wrong)

    batch, line = Batch(NET, Firsts(), 6, exact, share=False), deque[Job]()

    def turn(*lengths: int) -> None:
        line.extend(Job(Ask((5,) * length, 1), 1, lambda event: None, Spelling(WORDS)) for length in lengths)
        batch.turn(lambda: batch.fill(line))

    turn(80)
    turn(6, 6, 6, 6)
    turn()
    turn()
    assert begun == [6] * 4
    for _ in range(10):  # without an end to short ones it has half of what is read
        turn(6, 6, 6)
    assert 80 in begun


def test_room_and_limits():
    with Engine(NET, WORDS, slots=2, queue=1) as engine:
        assert len(run(engine, [Ask((1,) * 90, limit=50)])[0].end().ids) == 6
        assert run(engine, [Ask((1,) * 96, limit=0)])[0].end().reason == "limit"
        with pytest.raises(TooLong, match="context is 96 tokens, and the prompt has 96"):
            engine.submit([Ask((1,) * 96, limit=1)], [Listener()])
        for bad, says in ((Ask(()), "holds no tokens"), (Ask((270,)), "holds token 270"), (Ask((1,), limit=-1), "not be negative")):
            with pytest.raises(BadInput, match=says):
                engine.submit([bad], [Listener()])
        with pytest.raises(BadInput, match="4 completions in one request are more than the 3 places"):
            engine.submit([ask("x")] * 4, [Listener()] * 4)
        assert idle(engine)
    with pytest.raises(RuntimeError, match="does not run"):
        engine.submit([ask("x")], [Listener()])


def test_what_writes_no_text_is_refused_when_it_is_asked():
    with Engine(make(positions="alibi"), WORDS, compiled=None) as engine:
        with pytest.raises(BadInput, match="is not decoded step by step yet"):
            engine.submit([ask("x")], [Listener()])
        assert "eager steps (it writes no text)" in engine.told and idle(engine)


def test_a_long_prompt_is_too_long_before_its_tokens_are_looked_at():
    with Engine(NET, WORDS) as engine, pytest.raises(TooLong):
        engine.submit([Ask((999,) * 500)], [Listener()])


def test_a_full_line_refuses_and_cancelling_frees():
    gate = threading.Event()
    held = [Listener(on_piece=gate.wait) for _ in range(4)]
    long = [ask("some", limit=60, live=True, stop_ids=frozenset(), rng=SEED.child(i)) for i in range(4)]
    with Engine(NET, WORDS, slots=2, queue=2) as engine:
        jobs = engine.submit(long, held)
        with pytest.raises(Full) as full:
            engine.submit([ask("x")], [Listener()])
        assert full.value.seconds > 0
        engine.cancel(jobs[3])  # waits, so its place is free at once
        late = Listener()
        engine.submit([ask("x", limit=3)], [late])
        engine.cancel(jobs[0])
        gate.set()
        assert len(late.end().ids) <= 3 and len(held[1].end().ids) == 60
        held[2].end()
        assert idle(engine) and not held[0].done.is_set() and not held[3].events


def test_a_request_is_counted_once_while_it_goes_from_its_prompt_to_a_row():
    """Looked at from the engine's own thread at the moments in between: another thread may ask then."""
    seen = []

    class Left(list):
        def remove(self, job):
            seen.append(engine.active)
            super().remove(job)
            seen.append(engine.active)

    with Engine(NET, WORDS, slots=2, queue=0) as engine:
        engine.batch.reading, join = Left(), engine.slots.join
        engine.batch.slots.join = lambda *given: (seen.append(engine.active), join(*given))
        late = Listener()
        engine.submit([ask("some", limit=3)], [late])
        late.end()
    assert seen == [1, 1, 1]


def test_one_bad_request_fails_alone():
    class Broken:
        reads = ("logits:net",)

        def filter(self, tokens_BT, seen):
            raise ArithmeticError("no")

    def deaf(event):
        raise OSError("gone")

    with Engine(NET, WORDS, slots=4) as engine:
        fine, odd = Listener(), Listener()
        engine.submit([ask("some", limit=40), ask("x", filters=(Broken(),)), ask("x", live=True)], [fine, odd, deaf])
        assert odd.end().reason == "failed" and "ArithmeticError in the filters" in odd.end().error
        assert fine.end().reason in ("stop", "limit") and fine.end().ids == DECODER.generate(["some"], 40)[0].ids
        assert idle(engine)


def test_a_bug_in_the_step_fails_the_running_ones_and_the_engine_goes_on(monkeypatch, capfd):
    net = make()
    with Engine(net, WORDS, slots=2) as engine:
        real, calls = net.logits, []

        def failing(hidden):
            calls.append(1)
            if len(calls) == 6:
                raise ZeroDivisionError("a bug")
            return real(hidden)

        monkeypatch.setattr(net, "logits", failing)
        ends = [one.end() for one in run(engine, [ask("some", limit=50, stop_ids=frozenset()) for _ in range(2)])]
        assert [end.reason for end in ends] == ["failed"] * 2 and "ZeroDivisionError" in ends[0].error
        again = run(engine, [ask("some", limit=20)])[0].end()
        assert again.ids == DECODER.generate(["some"], 20)[0].ids and idle(engine)
    assert "a bug" in capfd.readouterr().err


def test_numbers_that_are_none_fail_the_request():
    net = make()
    with torch.no_grad():
        net.norm.weight.fill_(float("nan"))
    with Engine(net, WORDS) as engine:
        ends = [one.end() for one in run(engine, [ask("some", filters=filters) for filters in ((), WARM)])]
    assert [end.error for end in ends] == ["the model gave no number"] * 2


def test_closing_fails_what_is_left():
    gate = threading.Event()
    listeners = [Listener(on_piece=gate.set), Listener(), Listener()]
    with Engine(NET, WORDS, slots=1) as engine:
        engine.submit([ask("some", limit=80, live=True, stop_ids=frozenset(), rng=SEED.child(i)) for i in range(3)], listeners)
        gate.wait()
    assert {one.end().reason for one in listeners[1:]} == {"failed"} and not engine.alive
    assert isinstance(listeners[0].events[0], Piece)


@pytest.mark.parametrize("exact", [True, False])
def test_prompts_read_together_and_shared_beginnings_change_nothing(exact, monkeypatch):
    monkeypatch.setattr("bloomery.infer.slots.CHUNK", 16)
    monkeypatch.setattr(batches, "CHUNK", 16)
    system = "words and some " * 4
    asked = [ask(system + word, limit=9, rng=SEED.child(i), filters=WARM) for i, word in enumerate(("", "x", "def", "x", "and some more"))]
    with Engine(NET, WORDS, slots=5, exact=exact, share=False) as engine:
        plain = [run(engine, [one])[0].end().ids for one in asked]
        assert engine.slots.book.reused == 0
    with Engine(NET, WORDS, slots=5, exact=exact) as engine:
        together = [one.end().ids for one in run(engine, asked)]
        shared = len(asked[0].prompt) // 16 * 16
        assert engine.slots.book.reused >= 4 * (shared - 16) > 0
        again = [one.end().ids for one in run(engine, asked[::-1])][::-1]
        assert idle(engine) and engine.slots.book.held == engine.slots.book.promised == 0
    assert together == plain == again


def test_requests_wait_for_pages_and_all_are_answered():
    asked = [ask("some", limit=40, stop_ids=frozenset(), rng=SEED.child(i), filters=WARM) for i in range(9)]
    with Engine(NET, WORDS, slots=9) as engine:
        plain = [one.end().ids for one in run(engine, asked)]
        most = engine.slots.book.count
    with Engine(NET, WORDS, slots=9, pages=7) as engine:
        assert [one.end().ids for one in run(engine, asked)] == plain
        assert engine.slots.book.count == 9 < most and idle(engine)
