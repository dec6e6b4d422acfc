"""Clipped, noisy gradients against plain ones, against clipping written out, and the noise's size."""

from __future__ import annotations

import pytest
import torch

from bloomery.core.errors import BadInput
from bloomery.methods.backward.autograd import Autograd
from bloomery.methods.backward.private import Private
from bloomery.methods.loss.cross_entropy import CrossEntropy
from bloomery.methods.loss.global_batch_lbl import GlobalBatchLbl
from bloomery.methods.module.moe import MoE
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.modules import fit
from bloomery.seams import Batch, Rng
from bloomery.train.shares import shares

RNG = Rng((0,))


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = torch.nn.Embedding(11, 6), torch.nn.Linear(6, 11)
        g = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=g))

    def forward(self, inputs):
        return self.b(torch.tanh(self.a(inputs)))


def micros(count: int = 2, rows: int = 3, tokens: int = 5) -> list[Batch]:
    g = torch.Generator().manual_seed(1)
    made = []
    for _ in range(count):
        ids = torch.randint(0, 11, (rows, tokens + 1), generator=g)
        place = torch.arange(tokens).expand(rows, tokens)
        made.append(Batch(ids[:, :-1], ids[:, 1:], torch.ones(rows, tokens), place, torch.zeros(rows, tokens, dtype=torch.long)))
    return made


def value(net, micro: Batch) -> torch.Tensor:
    """A row's share of the mean over the 30 tokens of the step."""
    return torch.nn.functional.cross_entropy(net(micro.inputs).flatten(0, 1), micro.targets.flatten(), reduction="sum") / 30


def gradients(method) -> tuple[list[torch.Tensor], dict[str, float]]:
    net = Net()
    numbers = method.backward(net, micros(), value, RNG)
    return [p.grad for p in net.parameters()], numbers


def test_without_clip_and_noise_it_is_plain_backward() -> None:
    plain, numbers = gradients(Autograd(clip=0))
    ours, found = gradients(Private(clip=0, sigma=0))
    assert all(torch.equal(a, b) for a, b in zip(plain, ours, strict=True)) and found["loss"] == pytest.approx(numbers["loss"])
    by_rows, found = gradients(Private(clip=1e9, sigma=0))
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in zip(plain, by_rows, strict=True))
    assert found["clipped_share"] == 0 and found["loss"] == pytest.approx(numbers["loss"], rel=1e-6)


def test_each_row_is_clipped_by_itself() -> None:
    norms, wanted, clip = [], None, None
    for clip in (1e9, 0.0):
        clip = clip or sorted(norms)[2] * 1.001 * 6
        wanted = [torch.zeros_like(p) for p in Net().parameters()]
        for micro in micros():
            for i in range(3):
                net = Net()
                value(net, Batch(**{name: column[i : i + 1] for name, column in vars(micro).items()})).backward()
                norm = torch.cat([p.grad.flatten() for p in net.parameters()]).norm()
                norms.append(float(norm))
                for into, p in zip(wanted, net.parameters(), strict=True):
                    into += p.grad * min(1.0, clip / 6 / float(norm))
    ours, found = gradients(Private(clip=clip, sigma=0))
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in zip(wanted, ours, strict=True))
    assert found["clipped_share"] == 0.5 and found["row_norm_clipped"] <= clip * (1 + 1e-9) < found["row_norm_largest"]


def test_removing_a_row_moves_the_sum_by_the_clip_at_most_and_noise_has_its_deviation() -> None:
    """The sensitivity that the accountants assume, whatever the size of the row's gradient."""
    net, sums = Net(), []
    for batch in (micros(1, 4), micros(1, 4)):
        if sums:
            batch[0].targets[0] = (batch[0].targets[0] + 1) % 11
        net.zero_grad()
        Private(clip=0.01, sigma=0).backward(net, batch, lambda n, m: 100 * value(n, m), RNG)
        sums.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    assert 0 < float((sums[0] - sums[1]).norm()) <= 2 * 0.01 / 4 * (1 + 1e-5)
    method = Private(clip=0.5, sigma=2.0)
    noisy, numbers = gradients(method)
    quiet, _ = gradients(Private(clip=0.5, sigma=0))
    noise = torch.cat([(a - b).flatten() for a, b in zip(noisy, quiet, strict=True)])
    assert numbers["noise_deviation"] == pytest.approx(2.0 * 0.5 / 6)
    assert float(noise.std()) == pytest.approx(numbers["noise_deviation"], rel=0.15)
    again, _ = gradients(method)
    assert all(torch.equal(a, b) for a, b in zip(noisy, again, strict=True))


def test_a_loss_that_looks_at_all_rows_is_refused() -> None:
    """Replacing one row of four moves the sum by more than two clips then, as frequencies and draws are those of the whole step."""
    net = Transformer(Config(11, 16, 1, 2, 2, 24, 8), RNG)
    fit(net, [MoE()], RNG)
    step = micros(1)
    value = shares(GlobalBatchLbl(inner=CrossEntropy()), {"net": net}, step, RNG)
    with pytest.raises(BadInput, match="looks at all rows"):
        Private().backward(net, step, value, RNG)
    assert Private(clip=0, sigma=0).backward(net, step, value, RNG)["loss"] > 0  # promises nothing
    for loss in (CrossEntropy(), GlobalBatchLbl(inner=CrossEntropy(), scope="micro")):
        assert Private().backward(net, step, shares(loss, {"net": net}, step, RNG), RNG)["loss"] > 0


def test_secret_noise_does_not_follow_from_the_key() -> None:
    quiet, _ = gradients(Private(clip=0.5, sigma=0))
    drawn = []
    for _ in range(2):
        noisy, numbers = gradients(Private(clip=0.5, sigma=2.0, secret=True))
        drawn.append(torch.cat([(a - b).flatten() for a, b in zip(noisy, quiet, strict=True)]))
    assert not torch.equal(*drawn) and abs(float(torch.corrcoef(torch.stack(drawn))[0, 1])) < 0.4
    assert float(torch.cat(drawn).std()) == pytest.approx(numbers["noise_deviation"], rel=0.2)


def test_knobs_out_of_range() -> None:
    for knobs in ({"clip": -1.0}, {"sigma": -1.0}, {"clip": 0.0, "sigma": 1.0}, {"clip": float("inf")}):
        with pytest.raises(ValueError):
            Private(**knobs)
