from dataclasses import replace

import pytest
import torch

from bloomery.core.errors import BadInput
from bloomery.nn import mixture as nn_mixture
from bloomery.nn.config import Config
from bloomery.nn.mixture import Mixture, dispatch, given, grouped
from bloomery.nn.model import Transformer
from bloomery.nn.sites import sites
from bloomery.seams import Rng

torch.set_num_threads(1)
CFG = Config(vocab=31, width=16, layers=2, heads=4, kv_heads=2, ffn=24, context=32, experts=5, top=2, expert_ffn=10, shared_ffn=8)
X = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(0))


def make(**changes) -> Transformer:
    return Transformer(replace(CFG, **changes), Rng((1,)))


@pytest.mark.parametrize("kernel", [False, True])
@pytest.mark.parametrize("changes", [{}, {"gated": False}])
def test_the_product_for_a_compiler_or_one_kernel_is_that_of_the_experts_one_by_one(changes, kernel, monkeypatch):
    """The kernel is for GPUs; torch has the same operation on a processor, where row lengths of 16 bytes are asked for."""
    monkeypatch.setattr(nn_mixture, "by_kernel", lambda x, *sides: kernel)
    mixture = make(**changes, expert_ffn=12).blocks[0].mlp
    x, counts = X.flatten(0, 1).requires_grad_(), torch.tensor([3, 0, 6, 4, 1])
    want = torch.cat([expert(run) for expert, run in zip(mixture.experts, x.split(counts.tolist()), strict=True)])
    given = torch.randn(want.shape, generator=torch.Generator().manual_seed(1))
    leaves = [x, *mixture.experts.parameters()]
    grads = [torch.autograd.grad(made, leaves, given) for made in (want, grouped(x, counts, mixture.experts))]
    torch.testing.assert_close(grouped(x, counts, mixture.experts), want)
    torch.testing.assert_close(*grads)


def test_an_expert_without_rows_has_a_gradient_of_zero_whatever_the_kernel_leaves_there(monkeypatch):
    """On some GPUs that is what lay in memory before (github.com/pytorch/pytorch/issues/172439)."""
    real, counts = nn_mixture.grouped_mm, torch.tensor([3, 0, 6, 4, 1])

    def leaving(a, b, offs):
        found = real(a, b, offs=offs)
        if b.dim() == 2:
            found[1] = float("nan")
        return found

    monkeypatch.setattr(nn_mixture, "by_kernel", lambda x, *sides: True)
    monkeypatch.setattr(nn_mixture, "grouped_mm", leaving)
    mixture = make(expert_ffn=12).blocks[0].mlp
    grouped(X.flatten(0, 1), counts, mixture.experts).sum().backward()
    assert all(p.grad.eq(0).all() for p in mixture.experts[1].parameters())
    assert all(p.grad.isfinite().all() and p.grad.any() for i in (0, 2, 3, 4) for p in mixture.experts[i].parameters())


def test_one_kernel_is_for_bfloat16_on_a_gpu_with_sides_that_it_takes():
    class There:
        is_cuda, dtype = True, torch.bfloat16

        def element_size(self):
            return 2

    assert nn_mixture.by_kernel(There(), 64, 24) and not nn_mixture.by_kernel(There(), 64, 20)
    assert not nn_mixture.by_kernel(X.bfloat16(), 64, 24)


@pytest.mark.parametrize("used", [[0, 3], [4], [0, 1, 2, 3, 4]])
def test_no_token_is_dropped_and_experts_without_one_get_a_gradient_of_zero(used):
    """Against a loop over tokens; all tokens may go to the same experts, for there is no capacity."""
    experts, g = make().blocks[0].mlp.experts, torch.Generator().manual_seed(2)
    x = torch.randn(29, 16, generator=g).requires_grad_()
    chosen = torch.stack([torch.tensor(used)[torch.randperm(len(used), generator=g)[:2]] for _ in x])
    weight = torch.rand(chosen.shape, generator=g).requires_grad_()
    want = torch.stack([sum(w * experts[int(i)](row) for w, i in zip(ws, ids, strict=True)) for row, ws, ids in zip(x, weight, chosen)])
    given = torch.randn(want.shape, generator=g)
    leaves, found = [x, weight, *experts.parameters()], []
    for made in (want, dispatch(x, weight, chosen, experts)):
        torch.testing.assert_close(made, want)
        found.append(torch.autograd.grad(made, leaves, given, allow_unused=True))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(torch.zeros_like(other) if one is None else one, other, rtol=1e-4, atol=1e-6)
    assert all(other is not None for other in found[1])
    calls = []
    hooks = [expert.register_forward_pre_hook(lambda _, given: calls.append(len(given[0]))) for expert in experts]
    dispatch(x, weight, chosen, experts)
    assert sum(calls) == chosen.numel()
    for hook in hooks:
        hook.remove()


def test_a_bias_takes_part_in_the_choice_alone():
    mixture = make().blocks[0].mlp
    plain = mixture(X)
    mixture.balance()
    assert torch.equal(mixture(X), plain)
    mixture.bias += torch.tensor([0.0, 9.0, 0.0, 9.0, 0.0])
    x = X.clone().requires_grad_()
    found = mixture(x)
    probs = mixture.router(x).softmax(-1)[..., [1, 3]]
    shares = probs / probs.sum(-1, keepdim=True)
    want = mixture.shared(x) + sum(shares[..., i, None] * mixture.experts[e](x) for i, e in enumerate((1, 3)))
    torch.testing.assert_close(found, want)
    leaves, weights = [x, *mixture.parameters()], torch.randn(found.shape, generator=torch.Generator().manual_seed(3))
    for one, other in zip(*(torch.autograd.grad(y, leaves, weights, allow_unused=True) for y in (found, want)), strict=True):
        torch.testing.assert_close(torch.zeros_like(one) if other is None else other, one, rtol=1e-4, atol=1e-6)
    assert "bias" not in dict(mixture.named_parameters()) and not mixture.bias.requires_grad


def test_loads_are_counted_in_training_alone_and_without_padding():
    documents = torch.tensor([[0, 0, -1], [1, 2, 2]])
    chosen = torch.tensor([[[0, 1], [0, 2], [4, 3]], [[1, 0], [2, 0], [0, 4]]])
    assert given(chosen, 5, documents).tolist() == [5, 2, 2, 0, 1] and given(chosen, 5, None).sum() == 12
    net = make().train()
    for block in net.blocks:
        block.mlp.balance()
    row = torch.arange(20)[None]
    net(row, documents_BT=torch.tensor([[0] * 17 + [-1] * 3]))
    with torch.no_grad():
        net(row)
    net.eval()(row)
    assert [int(block.mlp.load.sum()) for block in net.blocks] == [34, 34]
    load, mixture = net.blocks[0].mlp.load.float(), net.blocks[0].mlp
    mixture.rebalance(0.25)
    assert mixture.bias.tolist() == (0.25 * torch.sign(load.mean() - load)).tolist() and not mixture.load.any()
    before = mixture.bias.clone()
    mixture.rebalance(0.25)  # nothing was given since
    assert torch.equal(mixture.bias, before)


def test_every_token_also_goes_to_the_shared_feed_forward():
    mixture = make().blocks[1].mlp
    alone = dispatch(X.flatten(0, 1), torch.ones(14, 1), torch.arange(14)[:, None] % 5, mixture.experts)
    torch.testing.assert_close(alone[3], mixture.experts[3](X.flatten(0, 1)[3:4])[0])
    with_it = mixture(X)
    mixture.shared, shared = None, mixture.shared
    torch.testing.assert_close(with_it, mixture(X) + shared(X))


def test_experts_and_what_is_shared_are_sites_and_counted():
    net = make(dense_layers=(0,))
    assert isinstance(net.blocks[1].mlp, Mixture) and not isinstance(net.blocks[0].mlp, Mixture)
    names = [site.name for site, _ in sites(net) if site.kind == "linear"]
    assert {"blocks.1.mlp.experts.4.down", "blocks.1.mlp.shared.gate_up", "blocks.0.mlp.gate_up"} <= set(names)
    assert net.cfg.parameters() == sum(p.numel() for p in net.parameters())
    assert net.cfg.block_parameters(1, idle=True) - net.cfg.block_parameters(1) == 3 * 3 * 16 * 10


def test_a_tool_that_cannot_say_it_refuses(tmp_path):
    from bloomery.nn.hf import to_hf

    with pytest.raises(BadInput, match="LlamaForCausalLM cannot say experts 5"):
        to_hf(make(), None, tmp_path)
    for changes in ({"top": 6}, {"top": 0}, {"mlp_bias": True}):
        with pytest.raises(ValueError, match="experts"):
            replace(CFG, **changes)
