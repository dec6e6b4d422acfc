import pytest
import torch

from bloomery.nn.config import Config
from bloomery.nn.model import FeedForward, Transformer, restart
from bloomery.seams import Rng

torch.set_num_threads(1)

SHAPES = [{"heads": 4, "kv_heads": 2, "tied": True}, {"heads": 4, "kv_heads": 4, "tied": False}, {"heads": 4, "kv_heads": 1, "tied": True}]


def make(**changes) -> Transformer:
    cfg = Config(**{"vocab": 97, "width": 32, "layers": 3, "heads": 4, "kv_heads": 2, "ffn": 48, "context": 64, **changes})
    return Transformer(cfg, Rng((1, "test"))).eval()


def ids(*shape: int) -> torch.Tensor:
    return torch.randint(0, 97, shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("shape", SHAPES)
def test_packed_documents_give_the_logits_of_each_alone(shape):
    net, parts = make(**shape), [ids(1, n) for n in (7, 1, 20, 13)]
    packed = torch.cat([*parts, ids(1, 5)], dim=1)
    documents = torch.tensor([[k for k, part in enumerate(parts) for _ in range(part.shape[1])] + [-1] * 5])
    together, at = net.logits(net(packed, documents_BT=documents)), 0
    for part in parts:
        alone = net.logits(net(part))
        torch.testing.assert_close(together[:, at : at + part.shape[1]], alone, rtol=0, atol=2e-6)
        at += part.shape[1]
    assert not together.isnan().any()


def test_padding_changes_no_gradient_and_is_never_nan():
    net, row = make(), ids(1, 11)
    padded = torch.cat([row, ids(1, 6)], dim=1)
    documents = torch.tensor([[0] * 11 + [-1] * 6])
    found = []
    for tokens, numbers in ((row, None), (padded, documents)):
        net.zero_grad()
        net.logits(net(tokens, documents_BT=numbers)[:, :11]).square().mean().backward()
        found.append({name: p.grad.clone() for name, p in net.named_parameters()})
    for name in found[0]:
        torch.testing.assert_close(found[1][name], found[0][name], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("length", [1, 2, 3, 17, 64])
def test_later_tokens_change_nothing_before_them(length):
    net, row = make(), ids(2, 64)
    torch.testing.assert_close(net(row)[:, :length], net(row[:, :length]), rtol=0, atol=2e-6)


def test_attention_equals_the_formula_written_out():
    from bloomery.nn import attention

    B, T, H, K, E = 2, 37, 6, 2, 8
    make_heads = lambda n, s: torch.randn(B, T, n, E, generator=torch.Generator().manual_seed(s))  # noqa: E731
    q, k, v = make_heads(H, 0), make_heads(K, 1), make_heads(K, 2)
    documents = torch.tensor([[0] * 10 + [1] * 27, [3] * 30 + [-1] * 7])
    want = torch.zeros(B, T, H, E)
    for b in range(B):
        for h in range(H):
            for t in range(T):
                keys = [s for s in range(t + 1) if documents[b, s] == documents[b, t]]
                share = torch.softmax(torch.stack([q[b, t, h] @ k[b, s, h // 3] for s in keys]), 0)
                want[b, t, h] = sum(p * v[b, s, h // 3] for p, s in zip(share, keys, strict=True))
    torch.testing.assert_close(attention.attend(q, k, v, documents), want.flatten(2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_has_the_gradients_of_a_plain_softmax(dtype):
    """Exponentials are divided after the values, and their backward pass is written by hand; large scores do not overflow."""
    from bloomery.nn import attention

    B, T, H, K, E = 2, 21, 4, 2, 8
    make_heads = lambda n, s: torch.randn(B, T, n, E, generator=torch.Generator().manual_seed(s))  # noqa: E731
    given = [((30 if dtype == torch.float32 else 3) * make_heads(H, 0)).to(dtype), make_heads(K, 1).to(dtype), make_heads(K, 2).to(dtype)]
    documents, pull = torch.tensor([[0] * 10 + [1] * 11, [3] * 18 + [-1] * 3]), make_heads(H, 3).flatten(2)
    ours, plain = ([z.detach().to(kind).requires_grad_() for z in given] for kind in (dtype, torch.float64))
    q, k, v = (z.repeat_interleave(H // z.shape[2], 2).transpose(1, 2) for z in plain)
    seen = attention.visible(documents, 0, T, q.device)[:, None]
    want = (((q @ k.mT).masked_fill(~seen, float("-inf")).softmax(-1)) @ v).transpose(1, 2).flatten(2)
    got = attention.attend(*ours, documents)
    (want * pull).sum().backward(), (got * pull).sum().backward()
    for one, other in zip((got, *(z.grad for z in ours)), (want, *(z.grad for z in plain)), strict=True):
        assert one.isfinite().all() and (one - other).norm() / other.norm() < (1e-5 if dtype == torch.float32 else 5e-2)


def test_compiled_training_writes_silu_out_and_means_the_same(monkeypatch):
    from bloomery.nn.feedforward import silu

    x = torch.linspace(-30, 30, 1001, dtype=torch.float64).float().requires_grad_()
    (plain,) = torch.autograd.grad(silu(x).sum(), x)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    (written,) = torch.autograd.grad(silu(x).sum(), x)
    torch.testing.assert_close(written, plain, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(silu(x), torch.nn.functional.silu(x), rtol=1e-6, atol=1e-7)
    with torch.no_grad():
        assert torch.equal(silu(x), torch.nn.functional.silu(x))


def test_turning_is_the_same_both_ways():
    from bloomery.nn.rotary import rotary, rotate, turn, widen

    x = torch.randn(2, 9, 3, 8, generator=torch.Generator().manual_seed(0))
    table = rotary(torch.arange(9)[None], 8, 500.0)
    torch.testing.assert_close(turn(x, *widen(*table)), rotate(x, *table), rtol=0, atol=1e-6)
    torch.testing.assert_close(rotate(x, *table).norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(rotate(x.transpose(1, 2), *table, heads=1).transpose(1, 2), rotate(x, *table))


def test_only_differences_of_positions_matter():
    net, row = make(), ids(1, 20)
    shifted = net(row, positions_BT=torch.arange(20)[None] + 9)
    torch.testing.assert_close(shifted, net(row), rtol=0, atol=5e-6)


def test_positions_restart_with_every_document():
    documents = torch.tensor([[4, 4, 4, 7, 7, -1], [0, 1, 1, 1, 1, 1]])
    assert restart(6, documents, torch.device("cpu")).tolist() == [[0, 1, 2, 0, 1, 0], [0, 0, 1, 2, 3, 4]]


def test_bf16_weights_keep_norms_and_softmax_in_fp32():
    net = make(width=64, ffn=96)
    exact = net.logits(net(ids(2, 40)))
    rounded = net.bfloat16()
    difference = (rounded.logits(rounded(ids(2, 40))).float() - exact).abs().max()
    assert difference < 0.02 * exact.abs().max() + 0.01


@pytest.mark.parametrize("shape", SHAPES)
def test_parameters_are_counted_as_the_configuration_says(shape):
    net = make(**shape)
    assert sum(p.numel() for p in net.parameters()) == net.cfg.parameters()
    assert (net.head_weight is net.embed.weight) == net.cfg.tied


def test_the_seed_decides_the_weights():
    one, same, other = (Transformer(make().cfg, Rng((seed,))).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["embed.weight"], other["embed.weight"])
    assert abs(one["embed.weight"].std().item() - 0.02) < 0.002


def test_deviations_at_the_start_are_smaller_by_depth_for_what_writes_into_the_residual_stream():
    for layers in (1, 8):
        net = make(width=128, layers=layers, ffn=256, kv_heads=4, tied=False)
        for name, p in net.named_parameters():
            if p.dim() > 1:
                want = 0.02 / (2 * layers) ** 0.5 if name.endswith(("mixer.out.weight", "mlp.down.weight")) else 0.02
                assert p.std().item() == pytest.approx(want, rel=0.05) and abs(p.mean()) < 0.05 * want, name
            else:
                assert p.eq(1.0).all(), name


def test_multipliers_are_where_they_say():
    from dataclasses import replace

    plain, row = make(), ids(1, 12)
    scaled = Transformer(replace(plain.cfg, embed_scale=3.0, residual_scale=0.5, head_divisor=4.0, architecture="granite"), None)
    scaled.load_state_dict(plain.state_dict(), assign=True)
    blocks = []
    for block in scaled.blocks:
        block.mlp.register_forward_hook(lambda _, given, out: blocks.append(out))
        block.mixer.register_forward_hook(lambda _, given, out: blocks.append(out))
    want = scaled.embed(row) * 3.0
    found = scaled(row)
    want = scaled.norm(want + 0.5 * sum(blocks)) / 4.0
    torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-6)
    for changes in ({"embed_scale": 0.0}, {"head_divisor": -1.0}, {"residual_scale": 0.5, "norm_order": "post"}):
        with pytest.raises(ValueError, match=r"embed_scale|residual_scale"):
            replace(plain.cfg, **changes)


def test_the_default_generator_is_left_alone():
    before = torch.get_rng_state()
    make()
    assert torch.equal(before, torch.get_rng_state())


def test_in_both_directions_a_token_sees_all_of_its_document():
    from bloomery.nn import attention

    q, k, v = (torch.randn(1, 9, 2, 8, generator=torch.Generator().manual_seed(s)) for s in range(3))
    documents = torch.tensor([[0] * 4 + [1] * 3 + [-1] * 2])
    want = torch.zeros(1, 9, 2, 8)
    for h in range(2):
        for t in range(9):
            keys = (documents[0] == documents[0, t]).nonzero().flatten().tolist()
            share = torch.softmax(torch.stack([q[0, t, h] @ k[0, s, h] for s in keys]), 0)
            want[0, t, h] = sum(p * v[0, s, h] for p, s in zip(share, keys, strict=True))
    torch.testing.assert_close(attention.attend(q, k, v, documents, causal=False), want.flatten(2), rtol=1e-5, atol=1e-5)
    net, row = make(causal=False), ids(1, 11)
    with torch.no_grad():
        whole = net(row)
    torch.testing.assert_close(net(row), whole, rtol=0, atol=2e-6)  # with gradients another kernel runs
    assert not torch.allclose(net(row[:, :5]), net(row)[:, :5], atol=1e-3)
    documents = torch.tensor([[0] * 5 + [1] * 6])
    torch.testing.assert_close(net(row, documents_BT=documents)[:, :5], net(row[:, :5]), rtol=0, atol=2e-6)


def test_a_model_that_sees_all_does_not_generate_and_is_not_exported(tmp_path):
    from bloomery.core.errors import BadInput
    from bloomery.nn.hf import to_hf

    net = make(causal=False)
    with pytest.raises(BadInput, match="both directions and cannot generate"):
        net(ids(1, 3), cache=object())
    with pytest.raises(BadInput, match="formats of other tools cannot say"):
        to_hf(net, None, tmp_path)


def test_what_blocks_tell_is_gathered_in_the_order_of_layers():
    net = make()
    for layer, block in enumerate(net.blocks):
        mlp = block.mlp.forward

        def telling(x, ctx=None, layer=layer, mlp=mlp):
            assert not ctx.aux  # each layer's own, so that compiled layers are alike
            ctx.aux.setdefault("layer", []).append(layer)
            return mlp(x)

        block.mlp.forward = telling
    aux = {"layer": [-1]}
    net(ids(2, 5), aux=aux)
    assert aux == {"layer": [-1, 0, 1, 2]}


class Telling(FeedForward):
    def forward(self, x_BTD, ctx=None):
        if ctx is not None and ctx.aux is not None:
            ctx.aux.setdefault("mean", []).append(x_BTD.mean())
        return super().forward(x_BTD)


def test_layers_share_one_compiled_graph_also_where_they_are_asked_to_tell():
    from torch._dynamo.utils import counters

    nets = [make().train(), make().train()]
    for net in nets:
        for block in net.blocks:
            block.mlp.__class__ = Telling
    for block in nets[0].blocks:
        block.compile(dynamic=False, fullgraph=True, backend="aot_eager")
    row, documents = ids(2, 12), torch.tensor([[0] * 5 + [1] * 7] * 2)
    for i, told in enumerate((False, True)):
        counters.clear()
        found = [({}, net) if told else (None, net) for net in nets]
        results = [net(row, documents_BT=documents, aux=aux) for aux, net in found]
        torch.testing.assert_close(*results, rtol=0, atol=2e-6)
        assert counters["stats"]["unique_graphs"] == 1, i
    (ours, _), (theirs, _) = found
    assert len(ours["mean"]) == 3
    torch.testing.assert_close(ours["mean"], theirs["mean"])


def test_all_tokens_see_a_prefix():
    net, row, prefix = make(), ids(1, 20), torch.tensor([[True] * 6 + [False] * 14])
    first, both = net(row, prefix_BT=prefix), make(causal=False)
    both.load_state_dict(net.state_dict())
    torch.testing.assert_close(first[:, :6], both(row[:, :6]), rtol=0, atol=2e-6)  # within the prefix, in both directions
    changed = row.clone()
    changed[:, 15] += 1
    torch.testing.assert_close(net(changed % 97, prefix_BT=prefix)[:, :15], first[:, :15], rtol=0, atol=2e-6)  # after it, backward only
    with torch.no_grad():
        torch.testing.assert_close(net(row, prefix_BT=prefix), first, rtol=0, atol=2e-6)
    documents = torch.tensor([[0] * 3 + [1] * 17])
    apart = net(row, documents_BT=documents, prefix_BT=prefix)
    torch.testing.assert_close(apart[:, 3:], net(row[:, 3:], prefix_BT=prefix[:, 3:]), rtol=0, atol=2e-6)


def test_layers_with_a_base_of_their_own_are_not_decoded_with_the_other_one():
    from bloomery.core.errors import BadInput

    net = Transformer(Config(31, 16, 2, 4, 2, 24, 32, windows=(4, 0), local_rope_base=100.0), Rng((1,))).eval()
    with pytest.raises(BadInput, match="two bases of rotary positions"):
        net(torch.arange(3)[None], cache=object())
