"""Head and cross-entropy together, against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from bloomery.num.cross_entropy import head_cross_entropy, linear_cross_entropy, softmax_gradient


def problem(n: int, d: int, v: int, dtype: torch.dtype) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    h, w = (torch.randn(shape, generator=g, dtype=torch.float64).to(dtype).requires_grad_() for shape in ((n, d), (v, d)))
    return [h, w, torch.randint(0, v, (n,), generator=g), torch.rand(n, generator=g).to(dtype)]


def plain(h, w, targets, weights):
    return (F.cross_entropy(h @ w.T, targets, reduction="none") * weights).sum()


@pytest.mark.parametrize("chunk", [1, 3, 7, 64])
def test_value_and_gradients_equal_torch(chunk: int) -> None:
    h, w, targets, weights = problem(17, 5, 11, torch.float64)
    loss, own = linear_cross_entropy(h, w, targets, weights, chunk), plain(h, w, targets, weights)
    assert torch.allclose(loss, own, rtol=1e-12)
    for a, b in zip(torch.autograd.grad(3 * loss, (h, w)), torch.autograd.grad(3 * own, (h, w)), strict=True):
        assert torch.allclose(a, b, rtol=1e-11, atol=1e-13)


def test_float32_gradients_do_not_depend_on_the_chunk() -> None:
    h, w, targets, weights = problem(300, 16, 50, torch.float32)
    whole = torch.autograd.grad(linear_cross_entropy(h, w, targets, weights, 300), (h, w))
    for chunk in (16, 77):
        for a, b in zip(torch.autograd.grad(linear_cross_entropy(h, w, targets, weights, chunk), (h, w)), whole, strict=True):
            assert (a - b).norm() / b.norm() < 1e-6


def test_weight_zero_trains_nothing_and_extreme_logits_stay_finite() -> None:
    h, w, targets, weights = problem(6, 4, 9, torch.float32)
    weights[2] = 0
    with torch.no_grad():
        h.mul_(1e4)
    loss = linear_cross_entropy(h, w, targets, weights, 4)
    dh, dw = torch.autograd.grad(loss, (h, w))
    assert torch.isfinite(loss) and torch.isfinite(dw).all() and not dh[2].any()


def test_head_gradient_in_bfloat16_is_summed_in_float32() -> None:
    h, w, targets, _ = problem(4096, 8, 12, torch.float32)
    weights = torch.ones(4096)
    exact = torch.autograd.grad(plain(h, w, targets, weights), w)[0]
    half = linear_cross_entropy(h.detach().bfloat16(), w.bfloat16(), targets, weights, 16)
    got = torch.autograd.grad(half, w)[0]
    assert (got - exact).norm() / exact.norm() < 2e-2


def test_only_the_gradients_asked_for() -> None:
    h, w, targets, weights = problem(6, 4, 9, torch.float32)
    loss = linear_cross_entropy(h, w.detach(), targets, weights, 4)
    assert torch.autograd.grad(loss, h)[0].shape == h.shape
    with torch.no_grad():
        assert torch.allclose(linear_cross_entropy(h, w, targets, weights, 4), plain(h, w, targets, weights), rtol=1e-5)


def test_softmax_gradient_sums_to_zero_over_the_vocabulary() -> None:
    g, nats = softmax_gradient(torch.randn(5, 7, dtype=torch.float64), torch.arange(5), torch.ones(5, dtype=torch.float64))
    assert g.sum(-1).abs().max() < 1e-12 and (nats > 0).all()


def test_a_models_own_kernel_is_used_for_every_chunk() -> None:
    h, w, targets, weights = problem(10, 4, 9, torch.float32)
    net, seen = torch.nn.Module(), []
    net.head_weight = w
    without = head_cross_entropy(net, h, targets, weights, 4)

    def kernel(logits: torch.Tensor, *rest: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(len(logits))
        return softmax_gradient(logits, *rest)

    net.softmax_gradient = kernel
    assert torch.equal(head_cross_entropy(net, h, targets, weights, 4), without) and seen == [4, 4, 2]


@pytest.mark.parametrize("chunk", [3, 64])
def test_a_bias_and_a_cap_give_the_gradients_of_torch(chunk: int) -> None:
    generator = torch.Generator().manual_seed(2)
    h, w, b = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((11, 6), (9, 6), (9,)))
    targets, weights = torch.randint(0, 9, (11,), generator=generator), torch.rand(11, generator=generator, dtype=torch.float64)
    leaves = [[t.clone().requires_grad_() for t in (h, w, b)] for _ in range(2)]
    logits = 1.5 * torch.tanh((leaves[0][0] @ leaves[0][1].T + leaves[0][2]) / 1.5)
    want = (torch.nn.functional.cross_entropy(logits, targets, reduction="none") * weights).sum()
    found = linear_cross_entropy(*leaves[1][:2], targets, weights, chunk, leaves[1][2], 1.5)
    want.backward(), found.backward()
    torch.testing.assert_close(found, want)
    for one, other in zip(*leaves, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


class Largest(TorchDispatchMode):
    """The most numbers of any tensor that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, torch.Tensor):
                self.numbers = max(self.numbers, one.untyped_storage().nbytes() // one.element_size())
        return made


@pytest.mark.parametrize("grad", [True, False])
def test_no_tensor_grows_with_the_tokens_times_the_vocabulary(grad: bool) -> None:
    """The largest is a chunk's logits, or the head or the hidden states themselves, however many tokens there are."""
    found = {}
    for n in (256, 1024, 4096):
        h, w, targets, weights = problem(n, 4, 500, torch.float32)
        with Largest() as watch, torch.set_grad_enabled(grad):
            loss = linear_cross_entropy(h, w, targets, weights, 32)
            if grad:
                loss.backward()
        found[n] = watch.numbers
        assert watch.numbers == max(32 * 500, n * 4)
    with Largest() as watch:
        plain(*problem(1024, 4, 500, torch.float32)).backward()
    assert watch.numbers == 1024 * 500 > 10 * found[1024]
