"""What every init keeps to: without sources it needs none or says that it does, and equal streams give equal weights."""

from __future__ import annotations

import pytest
import torch

from bloomery.core import catalog
from bloomery.core.errors import BadInput
from bloomery.data.tokenizer import learn
from bloomery.methods.init.scaled_normal import ScaledNormal
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Doc, Rng, Source

RNG = Rng((0, "contract"))
TEXT = "def add(left, right):\n    return left + right\n"
NEEDED = {"wechsel": {"dictionary": ["def=def", "return=return", "left=left", "right=right"]}}  # knobs that a name alone does not state
every = pytest.mark.parametrize("name", list(catalog.entries("init")))


def source(vocab: int = 280) -> Source:
    tokenizer = learn([TEXT] * 4, vocab)
    net = Transformer(Config(tokenizer.vocab, 16, 2, 2, 1, 24, 32))
    ScaledNormal().apply(Source(net=net), (), None, RNG.child("source"))
    return Source(net, tokenizer, [Doc(str(i), TEXT) for i in range(4)])


@every
def test_equal_streams_give_equal_weights_and_sources_stay(name):
    method, sources, results = catalog.build_method("init", {name: NEEDED.get(name, {})}), (source(),), []
    before = [p.clone() for p in sources[0].net.parameters()]
    for _ in range(2):
        into = Source(Transformer(sources[0].net.cfg), sources[0].tokenizer, sources[0].docs)
        for p in into.net.parameters():
            p.data.fill_(float("nan"))  # every parameter is to be filled
        try:
            method.apply(into, (), None, RNG)
            assert method.draws  # so that a recipe that names models for it is refused
        except BadInput as refused:
            assert "start" in str(refused) and not getattr(method, "draws", False)  # where models are named in a recipe
            method.apply(into, sources, None, RNG)
        results.append(into.net)
    for (key, a), b in zip(results[0].named_parameters(), results[1].parameters(), strict=True):
        assert torch.equal(a, b) and torch.isfinite(a).all() and a.requires_grad, key
    assert all(map(torch.equal, before, sources[0].net.parameters()))
