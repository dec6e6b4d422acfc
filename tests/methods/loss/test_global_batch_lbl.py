"""Load balancing over the whole step: micro-batches average to the concatenated batch, and a closed form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bloomery.core import catalog
from bloomery.core.errors import BadInput
from bloomery.methods.loss.cross_entropy import CrossEntropy
from bloomery.methods.loss.global_batch_lbl import GlobalBatchLbl
from bloomery.nn.config import Config
from bloomery.nn.model import FeedForward, Transformer
from bloomery.seams import Batch, Rng

RNG = Rng((0, "balance"))
CFG = Config(30, 16, 2, 2, 1, 12, 16)


class Mixture(nn.Module):
    """Four feed-forwards, each token to two of them; tells its router."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.router, self.experts = nn.Linear(16, 4, bias=False), nn.ModuleList(FeedForward(CFG) for _ in range(4))

    def forward(self, x, ctx):
        probs = self.router(x).float().softmax(-1)
        best, chosen = probs.topk(2)
        if ctx.aux is not None:
            ctx.aux.setdefault("router", []).append((probs, chosen))
        share = torch.zeros_like(probs).scatter(-1, chosen, best)
        return sum(share[..., i : i + 1] * expert(x) for i, expert in enumerate(self.experts))


def net() -> Transformer:
    made = Transformer(CFG, RNG)
    for layer, block in enumerate(made.blocks):
        block.mlp = Mixture(layer)
    return made


def batch(rows: int = 6, tokens: int = 10) -> Batch:
    """Rows of two quite different kinds of text, some padded."""
    g = torch.Generator().manual_seed(0)
    kind = (torch.arange(rows) % 2)[:, None] * 15
    inputs, targets = (torch.randint(0, 15, (rows, tokens), generator=g) + kind for _ in range(2))
    order = torch.arange(tokens).expand(rows, tokens)
    documents = torch.where(order >= tokens - torch.arange(rows)[:, None], -1, 0)
    return Batch(inputs, targets, (documents >= 0).float(), order, documents)


def cut(b: Batch, rows: slice) -> Batch:
    return Batch(**{name: column[rows] for name, column in vars(b).items()})


def step(method: GlobalBatchLbl, size: int) -> tuple[float, list[torch.Tensor]]:
    """The balance of a step in micro-batches of `size` rows, and the gradient of the whole loss."""
    model, b = net(), batch()
    seen, weights, total = method.look({"net": model}, b, RNG), method.weigh(b), 0.0
    for at in range(0, 6, size):
        terms = method.terms({"net": model}, cut(b, slice(at, at + size)), seen, RNG)
        total += terms["balance"].item() / weights["balance"]
        sum(term / weights[name] for name, term in terms.items()).backward()
    return total, [p.grad for p in model.parameters()]


def test_the_balance_of_the_step_is_the_formula_over_all_its_tokens() -> None:
    model, b = net(), batch()
    method = GlobalBatchLbl(CrossEntropy(), coefficient=0.5)
    aux: dict = {}
    hidden = model(b.inputs, b.positions, b.documents, aux=aux)
    real, wanted = b.documents >= 0, 0.0
    for probs, chosen in aux["router"]:
        share = torch.zeros(4)
        for expert in chosen[real].flatten().tolist():
            share[expert] += 1
        wanted += 0.5 * 4 * (share / share.sum() * probs[real].mean(0)).sum().item() / 2
    terms = method.terms({"net": model}, b, method.look({"net": model}, b, RNG), RNG)
    assert terms["balance"].item() / method.weigh(b)["balance"] == pytest.approx(wanted, abs=1e-6)
    alone = CrossEntropy().terms({"net": model}, b, {}, RNG)["tokens"]
    assert terms["tokens"].item() == pytest.approx(alone.item(), rel=1e-6) and hidden.shape == (6, 10, 16)


def test_micro_batches_with_shared_frequencies_average_to_the_concatenated_batch() -> None:
    together = GlobalBatchLbl(CrossEntropy(), coefficient=1.0)
    apart = GlobalBatchLbl(CrossEntropy(), coefficient=1.0, scope="micro")
    whole, gradient = step(together, 6)
    assert step(apart, 6)[0] == pytest.approx(whole, abs=1e-6)
    for size in (1, 2, 3):
        value, found = step(together, size)
        assert value == pytest.approx(whole, abs=1e-6)
        for a, w in zip(found, gradient, strict=True):
            assert (a - w).norm() <= 1e-5 * w.norm().clamp(min=1e-6)
    assert step(apart, 1)[0] > whole + 1e-3  # the usual practice asks for evenness within each row


def test_it_wraps_any_loss_and_refuses_a_model_without_experts() -> None:
    method = catalog.build_method("loss", {"global_batch_lbl": {"inner": {"cross_entropy": {"chunk": 7}}}})
    assert method.inner == CrossEntropy(chunk=7) and method.roles == ("net",) and not method.opens and method.parts(None, RNG) == {}
    assert method.weigh(batch()) == {"tokens": 45.0, "balance": 45.0}
    plain = {"net": Transformer(CFG, RNG)}
    with pytest.raises(BadInput, match="mixture"):
        method.look(plain, batch(), RNG)
    with pytest.raises(BadInput, match="mixture"):
        method.terms(plain, batch(), {}, RNG)
    with pytest.raises(ValueError):
        GlobalBatchLbl(CrossEntropy(), coefficient=-1.0)
