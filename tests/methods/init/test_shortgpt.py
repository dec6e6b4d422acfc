"""Layers that do nothing go first, all else is copied, and what cannot be measured is said."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bloomery.core.errors import BadInput
from bloomery.data.tokenizer import learn
from bloomery.methods.init.shortgpt import ShortGPT, influences, kept
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Doc, Rng, Source

TEXT = "def add(left, right):\n    return left + right\n"
TOKENIZER = learn([TEXT] * 4, 280)
CFG = Config(TOKENIZER.vocab, 16, 5, 4, 2, 24, 32)


def deep() -> Transformer:
    net = Transformer(CFG, Rng((3,)))
    with torch.no_grad():
        for layer, strength in enumerate((1.0, 0.0, 0.5, 0.0, 1.0)):
            net.blocks[layer].mixer.out.weight.mul_(30 * strength)
            net.blocks[layer].mlp.down.weight.mul_(30 * strength)
    return net


def shortened(method: ShortGPT, net: Transformer, docs=(TEXT,), **changes) -> Transformer:
    short = Transformer(replace(net.cfg, **changes), Rng((9,)))
    method.apply(Source(net=short), [Source(net, TOKENIZER, [Doc("a", text) for text in docs])], None, Rng((0,)))
    return short


def test_layers_that_change_nothing_go_and_the_function_stays():
    net = deep()
    short = shortened(ShortGPT(), net, layers=3)
    row = torch.arange(9)[None]
    assert torch.allclose(short(row), net(row), atol=1e-6)
    for mine, theirs in zip(short.blocks, (net.blocks[i] for i in (0, 2, 4)), strict=True):
        assert all(torch.equal(p, theirs.get_parameter(name)) for name, p in mine.named_parameters())


def test_influence_is_one_minus_the_mean_cosine_of_every_token():
    net, seen = deep(), []
    handle = net.blocks[2].register_forward_hook(lambda _, given, out: seen.append((given[0], out)))
    rows = [[3, 4, 5], [6, 7, 8, 9, 10]]
    found = influences(net, rows)
    handle.remove()
    cosines = torch.cat([torch.nn.functional.cosine_similarity(a, b, dim=-1).flatten() for a, b in seen])
    assert found[2] == pytest.approx(1 - float(cosines.detach().mean()), abs=1e-5) and max(map(abs, (found[1], found[3]))) < 1e-6
    assert found[0] > 0.1 and kept(found, 3) == [0, 2, 4] and kept([0.5, 0.5, 0.5], 2) == [0, 1]


def test_by_depth_the_last_stays_and_at_the_same_depth_it_is_a_copy():
    net, row = deep(), torch.arange(9)[None]
    short = shortened(ShortGPT("depth"), net, layers=3)
    assert torch.equal(short.blocks[2].mlp.down.weight, net.blocks[4].mlp.down.weight)
    assert torch.equal(short.blocks[1].mlp.down.weight, net.blocks[1].mlp.down.weight)
    assert torch.equal(shortened(ShortGPT(), net)(row), net(row))


def test_what_cannot_be_done_is_refused():
    net = deep()
    for changes, words in (({"ffn": 48}, "ffn is 24"), ({"layers": 6}, "5 layers or fewer")):
        with pytest.raises(BadInput, match=words):
            shortened(ShortGPT(), net, **changes)
    with pytest.raises(BadInput, match="say by: depth"):
        shortened(ShortGPT(), net, docs=(), layers=3)
    with pytest.raises(BadInput, match="one model"):
        ShortGPT().apply(Source(net=net), [], None, Rng((0,)))
    with pytest.raises(ValueError, match="tokens must"):
        ShortGPT(tokens=1)
