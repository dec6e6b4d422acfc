"""Attention and value relations of the last layer, against those of transformers' own layout and closed forms."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bloomery.core.errors import BadInput
from bloomery.methods.backward.streambp import StreamBp
from bloomery.methods.loss.minilm import MiniLm, divergence, relation
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Batch, Rng

RNG = Rng((0, "minilm"))
SMALL, BIG = Config(40, 16, 1, 4, 2, 24, 16), Config(40, 64, 3, 4, 2, 96, 16)


def batch() -> Batch:
    g = torch.Generator().manual_seed(0)
    inputs, targets = (torch.randint(0, 40, (3, 10), generator=g) for _ in range(2))
    documents = torch.arange(10).expand(3, 10) // 6
    positions = torch.arange(10).expand(3, 10) % 6
    documents = torch.where(torch.arange(10) >= torch.tensor([10, 9, 7])[:, None], -1, documents)
    return Batch(inputs, targets, (documents >= 0).float(), positions, documents)


def rows(b: Batch, part: slice) -> Batch:
    return Batch(**{name: column[part] for name, column in vars(b).items()})


@pytest.mark.parametrize("causal", [True, False])
def test_the_attention_is_the_one_that_the_layer_computes(causal: bool) -> None:
    """shares @ values, with the shares that the loss compares, is what enters the layer's output projection."""
    net, b = Transformer(replace(BIG, causal=causal), RNG), batch()
    caught = []
    net.blocks[-1].mixer.out.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    _, q, k, v = MiniLm().heard(net, b)
    order = torch.arange(10)
    allowed = (b.documents[:, :, None] == b.documents[:, None]) & ((order[:, None] >= order) | (not causal))
    shares = relation(q, k, allowed).exp()
    mixed = torch.einsum("bhts,bshe->bthe", shares, v.repeat_interleave(2, 2)).flatten(2)
    assert torch.allclose(shares.sum(-1), torch.ones(3, 4, 10), atol=1e-6)
    assert (mixed - caught[0])[b.documents >= 0].abs().max() < 1e-6


def test_divergences_are_zero_for_the_teacher_itself_and_else_a_sum_over_tokens() -> None:
    b, teacher, net = batch(), Transformer(BIG, RNG), Transformer(SMALL, RNG.child(1))
    own = MiniLm().terms({"net": teacher, "teacher": teacher}, b, {}, RNG)
    assert abs(own["attention"].item()) < 1e-5 and abs(own["values"].item()) < 1e-5
    found = MiniLm(values=2.0, ordinary=0.5).terms({"net": net, "teacher": teacher}, b, {}, RNG)
    plain = MiniLm(ordinary=1.0).terms({"net": net, "teacher": teacher}, b, {}, RNG)
    assert found["values"].item() == pytest.approx(2 * plain["values"].item()) and plain["values"] > 0 and plain["attention"] > 0
    assert found["tokens"].item() == pytest.approx(plain["tokens"].item() / 2)
    parts = [MiniLm().terms({"net": net, "teacher": teacher}, rows(b, slice(i, i + 1)), {}, RNG) for i in range(3)]
    for name, whole in plain.items():
        assert sum(part[name].item() for part in parts) == pytest.approx(whole.item(), rel=1e-5)
    assert MiniLm().weigh(b) == {"attention": 26.0, "values": 26.0, "tokens": 26.0}


def test_one_pair_by_hand() -> None:
    """Two tokens, one head: KL((1/2, 1/2), (3/4, 1/4)) for the second, nothing for the first, which sees itself alone."""
    wanted, own = torch.zeros(1, 2, 1, 1), torch.tensor([[[[1.0]], [[1.0]]]])
    keys = torch.tensor([[[[torch.tensor(3.0).log().item()]], [[0.0]]]])
    allowed = torch.tensor([[[True, False], [True, True]]])
    got = divergence(relation(wanted, wanted, allowed), relation(own, keys, allowed), torch.ones(1, 1, 2, dtype=torch.bool))
    expected = 0.5 * torch.log(torch.tensor(0.5 / 0.75)) + 0.5 * torch.log(torch.tensor(0.5 / 0.25))
    assert got.item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_student_alone_learns_and_comes_nearer() -> None:
    b, teacher, net = batch(), Transformer(BIG, RNG).requires_grad_(False), Transformer(SMALL, RNG.child(1))
    optimizer, found = torch.optim.Adam(net.parameters(), 1e-2), []
    for _ in range(40):
        terms = MiniLm(ordinary=0.0).terms({"net": net, "teacher": teacher}, b, {}, RNG)
        loss = terms["attention"] + terms["values"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found[-1] < 0.6 * found[0]
    assert all(p.grad is None for p in teacher.parameters())


def test_heads_that_do_not_fit_are_refused_and_can_be_cut_anew() -> None:
    b, net, teacher = batch(), Transformer(SMALL, RNG), Transformer(replace(BIG, heads=8, kv_heads=4, head_width=8), RNG)
    with pytest.raises(BadInput, match="heads"):
        MiniLm().terms({"net": net, "teacher": teacher}, b, {}, RNG)
    assert MiniLm(heads=4).terms({"net": net, "teacher": teacher}, b, {}, RNG)["values"] > 0
    with pytest.raises(BadInput, match="cut the heads"):
        MiniLm(heads=5).terms({"net": net, "teacher": teacher}, b, {}, RNG)
    with pytest.raises(BadInput, match="causal"):
        MiniLm().terms({"net": net, "teacher": Transformer(replace(SMALL, causal=False), RNG)}, b, {}, RNG)
    with pytest.raises(ValueError):
        MiniLm(heads=-1)


@pytest.mark.parametrize("trained", ["blocks.1.", "norm."])
def test_frozen_below_is_not_taken_for_a_pass_in_pieces(trained: str) -> None:
    b, teacher, net = batch(), Transformer(BIG, RNG).requires_grad_(False), Transformer(replace(SMALL, layers=2, tied=False), RNG)
    for name, p in net.named_parameters():
        p.requires_grad_(name.startswith(trained))
    assert any(p.requires_grad for p in net.parameters())
    sum(MiniLm().terms({"net": net, "teacher": teacher}, b, {}, RNG).values()).backward()
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)


def test_a_pass_in_pieces_is_refused() -> None:
    b, teacher, net = batch(), Transformer(BIG, RNG).requires_grad_(False), Transformer(SMALL, RNG.child(1))
    for frozen in (False, True):
        if frozen:
            net.embed.weight.requires_grad_(False)
        with pytest.raises(BadInput, match="computes in pieces"):
            value = lambda n, m: sum(MiniLm().terms({"net": n, "teacher": teacher}, m, {}, RNG).values())  # noqa: E731
            StreamBp(chunks=2).backward(net, [b], value, RNG)
