from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from bloomery.core.errors import BadInput
from bloomery.methods.module.s2 import S2, Sharded
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.modules import fit
from bloomery.seams import Rng

CFG = Config(vocab=61, width=32, layers=2, heads=4, kv_heads=2, ffn=24, context=64)
IDS = torch.randint(0, 61, (2, 40), generator=torch.Generator().manual_seed(0))


def made(method, cfg=CFG):
    net = Transformer(cfg, Rng((1,)))
    fit(net, [method], Rng((0,)))
    return net.eval()


@pytest.mark.parametrize("how", [S2(shards=1, window=1, whole=0), S2(shards=4, window=64, whole=0), S2(whole=2)])
def test_exact_one_shard_or_a_window_over_all_is_plain_attention(how):
    plain = Transformer(CFG, Rng((1,))).eval()
    documents = torch.tensor([[0] * 13 + [1] * 20 + [-1] * 7, [0] * 40])
    net = made(how)
    torch.testing.assert_close(net(IDS), plain(IDS), rtol=1e-4, atol=1e-5)
    kept = documents >= 0
    torch.testing.assert_close(net(IDS, documents_BT=documents)[kept], plain(IDS, documents_BT=documents)[kept], rtol=1e-4, atol=1e-5)


def test_exact_each_head_reads_its_shard_and_the_newest():
    mixer = made(S2(shards=4, block=4, window=6, whole=0)).blocks[0].mixer
    at = torch.arange(40)[None]
    shown = mixer.shown(at, at)[0]
    for head in range(4):
        for query in range(40):
            keys = [key for key in range(query + 1) if query - key < 6 or key // 4 % 4 == head]
            assert shown[head, query, : query + 1].nonzero()[:, 0].tolist() == keys
    x = torch.randn(1, 40, 32, generator=torch.Generator().manual_seed(1))
    net = made(S2(shards=4, block=4, window=6, whole=0), Config(61, 32, 1, 4, 2, 24, 64, positions="learned"))
    q, k, v = (z.transpose(1, 2) for z in net.blocks[0].mixer.split(x))
    mask = shown & torch.ones(40, 40, dtype=torch.bool).tril()
    heads = [scaled_dot_product_attention(q[:, h], k[:, h // 2], v[:, h // 2], attn_mask=mask[h]) for h in range(4)]
    wanted = net.blocks[0].mixer.out(torch.cat(heads, -1))
    torch.testing.assert_close(net.blocks[0].mixer(x, net.prepare(at, None)), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shards", [2, 3, 4])
def test_property_the_heads_together_read_all_and_alike_they_do_not(shards):
    at, causal = torch.arange(64)[None], torch.ones(64, 64, dtype=torch.bool).tril()
    shown = made(S2(shards=shards, block=4, window=4, whole=0)).blocks[0].mixer.shown(at, at)[0] & causal
    alike = made(S2(shards=shards, block=4, window=4, whole=0, alike=True)).blocks[0].mixer.shown(at, at)[0] & causal
    assert shown.any(0).equal(causal)
    assert not alike.any(0).equal(causal)
    share = float(shown.sum() / (4 * causal.sum()))
    assert 1 / shards < share < 1 / shards + 0.2


def test_positions_begin_anew_in_every_document():
    net = made(S2(shards=2, block=4, window=4, whole=0))
    row = torch.cat([IDS[0, :14], IDS[1, :26]])[None]
    documents = torch.tensor([[0] * 14 + [1] * 26])
    whole = net(row, documents_BT=documents)
    torch.testing.assert_close(whole[:, :14], net(IDS[:1, :14]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole[:, 14:], net(IDS[1:, :26]), rtol=1e-4, atol=1e-5)


def test_the_first_layers_stay_whole_and_what_cannot_be_cut_is_refused():
    kinds = [type(block.mixer) is Sharded for block in made(S2(whole=1)).blocks]
    assert kinds == [False, True]
    for wrong, cfg in (
        (S2(shards=5, whole=0), CFG), (S2(whole=0), Config(61, 32, 2, 4, 2, 24, 64, windows=(9,))),
        (S2(whole=0), Config(61, 32, 2, 4, 2, 24, 64, causal=False)),
    ):  # fmt: skip
        with pytest.raises(BadInput, match="s2"):
            made(wrong, cfg)
    with pytest.raises(ValueError, match="at least 1"):
        S2(shards=0)
    net = made(S2(whole=0))
    net.blocks[0].mixer.across = lambda *_: None
    with pytest.raises(BadInput, match="several ranks"):
        net(IDS)
