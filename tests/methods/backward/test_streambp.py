"""Chunks along the sequence give autograd's gradient, for any loss, and keep less."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from bloomery.core.errors import BadInput
from bloomery.methods.backward.autograd import Autograd
from bloomery.methods.backward.streambp import StreamBp
from bloomery.methods.loss.cross_entropy import CrossEntropy
from bloomery.methods.saved.recompute import Recompute
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Batch, Rng
from bloomery.train.saved import saving

RNG = Rng((0, "stream"))
CFG = Config(40, 16, 2, 4, 2, 24, 32)
SHAPES = {
    "llama": CFG,
    "qwen": replace(CFG, qk_norm=True, qkv_bias=True, tied=False),
    "gpt2": replace(CFG, kv_heads=4, positions="learned", norm="layer", gated=False, activation="gelu_tanh", mlp_bias=True),
}


def batch(rows: int = 4, tokens: int = 21, packed: bool = True) -> Batch:
    """Two documents and some padding in a row, cut where no chunk ends."""
    g = torch.Generator().manual_seed(0)
    inputs, targets = (torch.randint(0, 40, (rows, tokens), generator=g) for _ in range(2))
    order = torch.arange(tokens).expand(rows, tokens)
    documents = order // 8 - 3 * (order >= 19) if packed else None
    return Batch(inputs, targets, torch.rand(rows, tokens, generator=g), order % 8 if packed else order, documents)


def nats(net, micro: Batch) -> torch.Tensor:
    return CrossEntropy().terms({"net": net}, micro, {}, RNG)["tokens"] / micro.weights.sum()


def preferences(net, micro: Batch) -> torch.Tensor:
    """DPO over pairs of rows: not a sum over tokens."""
    log = F.log_softmax(net.logits(net(micro.inputs, micro.positions, micro.documents)), -1)
    each = log.gather(-1, micro.targets[..., None]).squeeze(-1).sum(-1)
    return -F.logsigmoid(0.1 * (each[::2] - each[1::2])).sum()


def gradients(method, net, micros, value) -> tuple[float, list[torch.Tensor]]:
    return method.backward(net, micros, value, RNG)["loss"], [p.grad for p in net.parameters() if p.requires_grad]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("value", [nats, preferences])
@pytest.mark.parametrize("packed", [True, False])
def test_equals_autograd_whatever_the_chunks(shape: str, value, packed: bool) -> None:
    micros = [batch(packed=packed), batch(2, packed=packed)]
    loss, wanted = gradients(Autograd(), Transformer(SHAPES[shape], RNG), micros, value)
    for chunks in (1, 2, 5, 100):
        got, found = gradients(StreamBp(chunks=chunks), Transformer(SHAPES[shape], RNG), micros, value)
        assert got == pytest.approx(loss, rel=1e-6)
        for a, w in zip(found, wanted, strict=True):
            assert (a - w).norm() <= 3e-6 * w.norm()


def test_what_is_kept_falls_with_the_number_of_chunks() -> None:
    wide, kept = replace(CFG, width=32, ffn=96, layers=4, context=256), []
    for method in (Autograd(), StreamBp(chunks=1), StreamBp(chunks=4), StreamBp(chunks=16)):
        net = Transformer(wide, RNG)
        with saving(net) as watch:
            method.backward(net, [batch(2, 256)], nats, RNG)
        kept.append(watch.peak_bytes)
    assert kept[1] < 0.6 * kept[0] and kept[2] < 0.5 * kept[1] and kept[3] < 0.7 * kept[2], kept


def test_frozen_weights_and_what_modules_tell() -> None:
    """A frozen embedding still lets the layers learn; what a module tells a loss carries its gradient."""

    class Telling(torch.nn.Module):
        def __init__(self, old: torch.nn.Module) -> None:
            super().__init__()
            self.old, self.router = old, torch.nn.Linear(16, 3)
            torch.nn.init.constant_(self.router.weight, 0.1)
            torch.nn.init.zeros_(self.router.bias)

        def forward(self, x, ctx):
            probs = self.router(x * torch.arange(16)).softmax(-1)
            if ctx.aux is not None:
                ctx.aux.setdefault("router", []).append((probs, probs.topk(2).indices))
            return self.old(x) * probs[..., :1]

    def net() -> Transformer:
        made = Transformer(CFG, RNG)
        made.embed.weight.requires_grad_(False)
        for block in made.blocks:
            block.mlp = Telling(block.mlp)
        return made

    def balanced(model, micro: Batch) -> torch.Tensor:
        aux: dict = {}
        hidden = model(micro.inputs, micro.positions, micro.documents, aux=aux)
        assert len(aux["router"]) == 2 and aux["router"][0][1].shape == (4, 21, 2)
        return hidden.square().mean() + sum((probs**2 * (1 + chosen[..., :1])).sum() for probs, chosen in aux["router"])

    loss, wanted = gradients(Autograd(), net(), [batch()], balanced)
    got, found = gradients(StreamBp(chunks=3), net(), [batch()], balanced)
    assert got == pytest.approx(loss, rel=1e-6)
    for a, w in zip(found, wanted, strict=True):
        assert (a - w).norm() <= 3e-6 * w.norm()


def test_feed_forwards_may_be_computed_again_beside_it_and_what_it_cuts_itself_may_not() -> None:
    wanted = gradients(Autograd(), Transformer(CFG, RNG), [batch()], nats)[1]
    net = Transformer(CFG, RNG)
    with saving(net, Recompute(("mlp",))):
        for a, w in zip(gradients(StreamBp(chunks=3), net, [batch()], nats)[1], wanted, strict=True):
            assert (a - w).norm() <= 3e-6 * w.norm()
    for sites in (("block",), ("mixer",)):
        with pytest.raises(BadInput, match="leave `saved` out"), saving(net, Recompute(sites)):
            StreamBp().backward(net, [batch()], nats, RNG)


def test_clips_and_refuses_what_it_cannot_cut() -> None:
    grads = [torch.tensor([3.0, 4.0])]
    assert StreamBp(clip=1.0).transform(grads) == {"grad_norm": 5.0} and torch.allclose(grads[0], torch.tensor([0.6, 0.8]))
    with pytest.raises(BadInput, match="causal"):
        StreamBp().backward(Transformer(replace(CFG, causal=False), RNG), [batch()], nats, RNG)
    dropping = Transformer(CFG, RNG)
    dropping.blocks[0].mlp.dropout = 0.1
    with pytest.raises(BadInput, match="dropout"):
        StreamBp().backward(dropping, [batch()], nats, RNG)
    for knobs in ({"chunks": 0}, {"clip": -1.0}):
        with pytest.raises(ValueError):
            StreamBp(**knobs)
