"""Two prompts for one answer: the decoder and the engine against whole passes of the model, in any company."""

import pytest
import torch
from small_engine import PROMPTS, SEED, WORDS, Listener, answers, ask, idle, make

from bloomery.core.errors import BadInput
from bloomery.infer.decoder import Decoder
from bloomery.infer.engine import Engine
from bloomery.infer.model import sampling
from bloomery.infer.speculation import Draft, PromptLookup
from bloomery.methods.filter.guidance import Guidance
from bloomery.methods.filter.top_k import TopK

torch.set_num_threads(1)
NET = make()
GREEDY, WARM = (Guidance(2.5), TopK(1)), (Guidance(2.5), *sampling(1.2, 100, 0.95))
SECONDS = ["x", "def f(x): return", "some words and", "1"]


def pairs(filters, limit=14, **more):
    """Asks with second prompts."""
    return [
        ask(first, limit=limit, filters=filters, rng=SEED.child("prompt", i), without=tuple(WORDS.encode(second).ids), **more)
        for i, (first, second) in enumerate(zip(PROMPTS, SECONDS, strict=False))
    ]


@torch.inference_mode()
def by_hand(one, scale: float) -> list[int]:
    """Greedy tokens by two passes over both whole texts for each of them."""
    made: list[int] = []
    while len(made) < one.limit and not (made and made[-1] == 2):
        net, without = (NET.logits(NET(torch.tensor([[*prompt, *made]])))[0, -1] for prompt in (one.prompt, one.without))
        made.append(int((without + scale * (net - without)).argmax()))
    return made


@torch.inference_mode()
def by_decoder(asks, filters):
    decoder = Decoder(NET, WORDS, [2])
    return decoder.generate(
        [one.prompt for one in asks], asks[0].limit, filters, rng=SEED, without=[one.without for one in asks], rows=3
    )  # fmt: skip


def test_every_token_is_that_of_two_whole_passes():
    asks = pairs(GREEDY)
    wanted = [by_hand(one, 2.5) for one in asks]
    assert wanted != [by_hand(one, 1.0) for one in asks]
    assert [list(one.ids) for one in by_decoder(asks, GREEDY)] == wanted
    with Engine(NET, WORDS, slots=2) as engine:
        assert [list(one.ids) for one in answers(engine, asks)] == wanted


@pytest.mark.parametrize("options", [{}, {"exact": False}, {"guess": PromptLookup()}], ids=["exact", "together", "guesses"])
def test_sampled_answers_are_those_of_the_decoder_with_others_beside_them(options):
    asks, alone = pairs(WARM), [ask(p, limit=9 + i, rng=SEED, filters=sampling(1.2)) for i, p in enumerate(PROMPTS)]
    wanted = [list(one.ids) for one in by_decoder(asks, WARM)]
    with Engine(NET, WORDS, slots=5, **options) as engine:
        plain = answers(engine, alone)
    with Engine(NET, WORDS, slots=5, **options) as engine:
        found = answers(engine, [one for pair in zip(asks, alone[:4], strict=True) for one in pair] + alone[4:])
        assert idle(engine)
        assert engine.slots.book.held == 0
    assert [list(one.ids) for one in found[0:8:2]] == wanted
    assert [one.ids for one in (*found[1:8:2], *found[8:])] == [one.ids for one in plain]


def test_at_scale_1_or_with_the_prompt_itself_the_answer_is_the_plain_one():
    asks = pairs((Guidance(1.0), TopK(1)))
    same = [ask(p, limit=14, filters=GREEDY, without=tuple(WORDS.encode(p).ids)) for p in PROMPTS[:4]]
    with Engine(NET, WORDS, slots=4) as engine:
        wanted = [one.ids for one in answers(engine, [ask(p, limit=14) for p in PROMPTS[:4]])]
        assert [one.ids for one in answers(engine, asks)] == wanted
        assert [one.ids for one in answers(engine, same)] == wanted


def test_a_pair_ends_together_when_it_is_cancelled_or_one_prompt_fails(monkeypatch):
    with Engine(NET, WORDS, slots=4) as engine:
        heard = Listener(lambda: engine.cancel(job))
        job = engine.submit([pairs(GREEDY, limit=60, live=True)[0]], [heard])[0]
        while not job.cancelled and not job.ended:
            heard.done.wait(0.01)
        assert idle(engine)
        assert engine.slots.book.held == 0
        read = engine.batch._read

        def broken(parts):
            if any(one.leads is not None for one, _, _ in parts):
                raise RuntimeError
            read(parts)

        monkeypatch.setattr(engine.batch, "_read", broken)
        assert answers(engine, pairs(GREEDY)[:2])[0].reason == "failed"
        assert idle(engine)
        assert engine.slots.book.held == 0


def test_what_cannot_be_served_is_refused():
    one = pairs(GREEDY)[0]
    with Engine(NET, WORDS, slots=1) as engine, pytest.raises(BadInput, match="two slots"):
        engine.submit([one], [Listener()])
    with Engine(NET, WORDS, slots=2, pages=7) as engine, pytest.raises(BadInput, match="pages of both"):
        engine.submit([ask("words " * 9, limit=60, filters=GREEDY, without=(1,) * 30)], [Listener()])
    with Engine(NET, WORDS, slots=2, guess=Draft(NET)) as engine, pytest.raises(BadInput, match="draft"):
        engine.submit([one], [Listener()])
    with Engine(NET, WORDS, slots=2) as engine:
        with pytest.raises(BadInput, match="such as guidance"):
            engine.submit([ask("x", without=(1,))], [Listener()])
        with pytest.raises(BadInput, match="a model called without"):
            engine.submit([ask("x", filters=GREEDY)], [Listener()])
        with pytest.raises(BadInput, match="leaves no room"):
            engine.submit([ask("x", filters=GREEDY, without=(1,) * 96)], [Listener()])
    with pytest.raises(BadInput, match="such as guidance"):
        Decoder(NET, WORDS).generate(["x"], without=["y"])
