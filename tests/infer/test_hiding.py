"""Attention that hides keys from heads, in every cache: the tokens of whole passes."""

import pytest
import torch
from small_engine import PROMPTS, SEED, WORDS, answers, ask, make

from bloomery.infer import compiled
from bloomery.infer.decoder import Decoder
from bloomery.infer.engine import Engine
from bloomery.infer.speculation import PromptLookup
from bloomery.methods.module.s2 import S2
from bloomery.nn.modules import fit
from bloomery.seams import Rng

torch.set_num_threads(1)
NET = make(context=200)
fit(NET, [S2(shards=4, block=4, window=8, whole=1)], Rng((0,)))
ASKS = [ask(p, limit=16, rng=SEED, logprobs=0) for p in (*PROMPTS[:4], "words and " * 25)]


@pytest.fixture(scope="module")
def wanted():
    return [by_hand(one) for one in ASKS]


@torch.inference_mode()
def by_hand(one):
    """Greedy tokens and their log-probabilities by a pass over the whole text for each."""
    made, told = [], []
    while len(made) < one.limit and not (made and made[-1] == 2):
        logp = NET.logits(NET(torch.tensor([[*one.prompt, *made]])))[0, -1].log_softmax(-1)
        made.append(int(logp.argmax()))
        told.append(float(logp.max()))
    return made, told


def same(found, wanted):
    """Tokens are equal, and log-probabilities but for rounding."""
    for (ids, logp), (want, told) in zip(found, wanted, strict=True):
        assert list(ids) == want
        assert list(logp) == pytest.approx(told[: len(logp)], abs=1e-4)


def test_the_decoder_with_rows_of_unequal_length(wanted):
    with torch.inference_mode():
        found = Decoder(NET, WORDS, [2]).generate([one.prompt for one in ASKS], 16, logp=True)
    same([(one.ids, one.logp) for one in found], wanted)


@pytest.mark.parametrize("options", [{}, {"exact": False}, {"guess": PromptLookup()}], ids=["exact", "together", "guesses"])
def test_the_engine(wanted, options):
    with Engine(NET, WORDS, slots=3, **options) as engine:
        same([(one.ids, [token.logp for token in one.tokens]) for one in answers(engine, ASKS)], wanted)


def test_the_step_that_is_compiled(wanted, monkeypatch):
    """The module that a compiler is given, run as it is."""
    monkeypatch.setattr(compiled, "_compiled", lambda net, frozen: compiled.Whole(net).eval())
    monkeypatch.setattr(compiled, "compiler", lambda: "g++")
    with Engine(NET, WORDS, slots=3, compiled=True) as engine:
        same([(one.ids, [token.logp for token in one.tokens]) for one in answers(engine, ASKS)], wanted)
