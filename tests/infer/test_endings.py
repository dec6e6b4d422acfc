"""Likelihoods of endings against plain forward passes, alone and in company, shared beginnings among them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import BadInput
from bloomery.infer import endings
from bloomery.infer.endings import likelihoods
from bloomery.methods.filter.eft import EFT
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Rng


def net_of(seed: int) -> Transformer:
    net = Transformer(Config(vocab=24, width=16, layers=2, heads=2, kv_heads=1, ffn=24, context=20), Rng((seed,)))
    for p in net.parameters():
        p.data.mul_(5.0) if p.dim() > 1 else None
    return net.eval()


NET, EXPERT, BASE = (net_of(seed) for seed in range(3))
ids = st.lists(st.integers(0, 23), min_size=2, max_size=21)


@torch.inference_mode()
def plain(sequence: list[int], start: int) -> tuple[float, bool]:
    logits = NET.logits(NET(torch.tensor([sequence[:-1]]))[0, start - 1 :])
    wanted = torch.tensor(sequence[start:])
    return float(logits.log_softmax(-1).gather(-1, wanted[:, None]).sum()), bool((logits.argmax(-1) == wanted).all())


@settings(max_examples=40, deadline=None)
@given(st.lists(ids, min_size=1, max_size=9), st.data())
def test_each_is_that_of_a_plain_forward_pass(sequences, data):
    sequences = [*sequences, *([*one[:-1], (one[-1] + 1) % 24] for one in sequences[:3])]  # some that differ in the last token alone
    asked = [(one, data.draw(st.integers(1, len(one) - 1))) for one in sequences]
    for found, one in zip(likelihoods(NET, asked), asked, strict=True):
        logp, greedy = plain(*one)
        assert found.logp == pytest.approx(logp, abs=1e-4) and found.greedy == greedy


def test_what_greedy_decoding_writes_is_told_from_what_it_does_not():
    written = [3, 5]
    with torch.inference_mode():
        for _ in range(6):
            written.append(int(NET.logits(NET(torch.tensor([written]))[0, -1]).argmax()))
    other = [*written[:-1], (written[-1] + 1) % 24]
    assert [one.greedy for one in likelihoods(NET, [(written, 2), (other, 2), (other[:-1], 2)])] == [True, False, True]


def test_pieces_of_the_head_join_and_equal_inputs_are_read_once(monkeypatch):
    asked = [([1, 2, 3, *range(k, k + 9)], 1 + k % 4) for k in range(8)] + [([7, 8, k], 2) for k in range(20)]
    whole, read = likelihoods(NET, asked), []
    monkeypatch.setattr(endings, "HEAD_ROWS", 5)
    real = endings.laid
    monkeypatch.setattr(endings, "laid", lambda rows: read.extend(one for row in rows for one in row) or real(rows))
    for one, other in zip(likelihoods(NET, asked), whole, strict=True):
        assert one.logp == pytest.approx(other.logp, abs=1e-5) and one.greedy == other.greedy
    assert len(read) == 9


def test_filters_that_join_models_count():
    asked = [([1, 2, 3, 4], 2)]
    joined = likelihoods(NET, asked, (EFT(),), {"expert": EXPERT, "base": NET})[0].logp
    assert joined == pytest.approx(likelihoods(EXPERT, asked)[0].logp, abs=1e-4)


@pytest.mark.parametrize(("sequence", "start"), [([1, 2], 0), ([1, 2], 2), ([1], 1), (list(range(22)), 3)])
def test_what_does_not_fit_is_refused(sequence, start):
    with pytest.raises(BadInput, match="do not fit a context of 20"):
        likelihoods(NET, [(sequence, start)])
