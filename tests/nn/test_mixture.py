from dataclasses import replace

import pytest
import torch

from bloomery.core.errors import BadInput
from bloomery.nn.config import Config
from bloomery.nn.mixture import Mixture, dispatch, grouped
from bloomery.nn.model import Transformer
from bloomery.nn.sites import sites
from bloomery.seams import Rng

torch.set_num_threads(1)
CFG = Config(vocab=31, width=16, layers=2, heads=4, kv_heads=2, ffn=24, context=32, experts=5, top=2, expert_ffn=10, shared_ffn=8)
X = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(0))


def make(**changes) -> Transformer:
    return Transformer(replace(CFG, **changes), Rng((1,)))


@pytest.mark.parametrize("changes", [{}, {"gated": False}])
def test_the_product_for_a_compiler_is_that_of_the_experts_one_by_one(changes):
    mixture = make(**changes).blocks[0].mlp
    x, counts = X.flatten(0, 1).requires_grad_(), torch.tensor([3, 0, 6, 4, 1])
    want = torch.cat([expert(run) for expert, run in zip(mixture.experts, x.split(counts.tolist()), strict=True)])
    given = torch.randn(want.shape, generator=torch.Generator().manual_seed(1))
    leaves = [x, *mixture.experts.parameters()]
    grads = [torch.autograd.grad(made, leaves, given) for made in (want, grouped(x, counts, mixture.experts))]
    torch.testing.assert_close(grouped(x, counts, mixture.experts), want)
    torch.testing.assert_close(*grads)


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
