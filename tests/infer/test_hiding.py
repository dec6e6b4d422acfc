"""Attention that hides keys from heads, in every cache: the tokens of whole passes."""

import pytest
import torch
from small_engine import PROMPTS, SEED, WORDS, answers, ask, make

from bloomery.infer import cache, columns, compiled
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


def test_long_prompts_pass_over_what_is_hidden(wanted, monkeypatch):
    """Keys that no query of a block sees are left out, and nothing changes but the order of sums."""
    monkeypatch.setattr(cache, "SKIPS", 0)
    monkeypatch.setattr(columns, "BLOCK", 16)
    with Engine(NET, WORDS, slots=3) as engine:
        same([(one.ids, [token.logp for token in one.tokens]) for one in answers(engine, ASKS)], wanted)


@pytest.mark.parametrize(("T", "S"), [(1, 1), (150, 150), (70, 210)])
@pytest.mark.parametrize("shards", [1, 2, 4])
def test_chosen_keys_give_masked_attention_and_are_no_more_than_are_seen(T, S, shards):
    """With one shard every key is seen, and this is causal attention."""
    made = torch.Generator().manual_seed(S)
    q, (k, v) = torch.randn(4, T, 8, generator=made), (torch.randn(2, S, 8, generator=made) for _ in range(2))

    def hide(query_BT, key_BS):
        own = (key_BS // 4 % shards)[:, None] == (torch.arange(4) * shards // 4)[None, :, None]
        return own[:, :, None] | (query_BT[:, None, :, None] - key_BS[:, None, None] < 8)

    at, key = torch.arange(S - T, S), torch.arange(S)
    seen = hide(at[None], key[None])[0] & (key <= at[:, None])
    scores = (q @ k.repeat_interleave(2, 0).transpose(1, 2) * 0.3).masked_fill(~seen, float("-inf"))
    chosen = columns.attend_chosen(q, k, v, lambda start, stop: columns.shown(hide, start, stop, q.device), 0.3)
    torch.testing.assert_close(chosen, scores.softmax(-1) @ v.repeat_interleave(2, 0), atol=1e-5, rtol=1e-5)
    read = columns.shown(hide, S - T, S, q.device)[0].sum(1)
    assert bool((read <= S // shards + 4 + 8 + T).all()) and (shards > 1 or read.tolist() == [S] * 4)


def test_the_step_that_is_compiled(wanted, monkeypatch):
    """The module that a compiler is given, run as it is."""
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    monkeypatch.setattr(compiled, "compiler", lambda: "g++")
    with Engine(NET, WORDS, slots=3, compiled=True) as engine:
        same([(one.ids, [token.logp for token in one.tokens]) for one in answers(engine, ASKS)], wanted)
