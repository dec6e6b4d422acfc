"""Experts on disk: the numbers of a model that has all in memory, whatever is read when, and what is read ahead."""

import threading

import pytest
import torch
from paged import in_portions

from bloomery.core.errors import BadInput
from bloomery.infer.fetching import Fetcher, Shelf
from bloomery.methods.module.moe import MoE
from bloomery.methods.module.pregated import PreGated
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.modules import fit
from bloomery.nn.saving import load, save
from bloomery.seams import Rng

torch.set_num_threads(1)
CFG = Config(vocab=61, width=16, layers=3, heads=4, kv_heads=2, ffn=24, context=32)
IDS = torch.randint(0, 61, (1, 12), generator=torch.Generator().manual_seed(0))
WAYS = {"gates": [PreGated(MoE(8, 2))], "routers": [MoE(8, 2)], "config": []}


def made(way, tmp_path):
    net = Transformer(Config(61, 16, 3, 4, 2, 24, 32, experts=8, top=2) if way == "config" else CFG, Rng((1,)))
    if WAYS[way]:
        fit(net, WAYS[way], Rng((0,)))
    save(net, tmp_path)
    return load(tmp_path)


@torch.inference_mode()
def decoded(net):
    """Hidden states of a prompt, then token after token."""
    return in_portions(net, IDS, [6] + [1] * 6)[0]


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("held", [0, 5, 100])
def test_the_numbers_are_those_of_all_experts_in_memory(tmp_path, way, held):
    net = made(way, tmp_path)
    wanted, weights = decoded(net), {name: t.clone() for name, t in net.state_dict().items()}
    with Fetcher(net, Shelf(net, tmp_path).read, held) as fetcher:
        assert all(p.is_meta for name, p in net.named_parameters() if ".experts." in name)
        for one, other in zip(decoded(net), wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
        if held == 100:
            read = fetcher.bytes
            decoded(net)
            assert fetcher.bytes == read
    assert all(t.equal(weights[name]) for name, t in net.state_dict().items())
    assert all(torch.allclose(one, other) for one, other in zip(decoded(net), wanted, strict=True))


def test_gates_have_all_but_the_first_layer_read_ahead_and_few_are_there_at_a_time(tmp_path):
    net = made("gates", tmp_path)
    shelf, order = Shelf(net, tmp_path), []

    def read(place):
        order.append((place[0], threading.current_thread() is threading.main_thread()))
        return shelf.read(place)

    with Fetcher(net, read) as fetcher, torch.inference_mode():
        net(IDS[:, :1])
        assert (fetcher.late, fetcher.ahead) == (2, 4)  # the first layer has no one before it
        assert sorted(order) == [(0, True)] * 2 + [(1, False)] * 2 + [(2, False)] * 2
        assert fetcher.most <= 4  # two of a layer and two of the next, of 24
        one = sum(p.numel() * 4 for p in net.blocks[0].mlp.experts[0].parameters())
        assert fetcher.bytes == 6 * one


def test_routers_have_none_read_ahead(tmp_path):
    net = made("routers", tmp_path)
    with Fetcher(net, Shelf(net, tmp_path).read) as fetcher, torch.inference_mode():
        net(IDS[:, :1])
        assert (fetcher.late, fetcher.ahead, fetcher.most) == (6, 0, 2)


def test_what_cannot_be_fetched_is_refused(tmp_path):
    net = made("routers", tmp_path)
    with pytest.raises(BadInput, match="no experts"):
        Shelf(Transformer(CFG), tmp_path)
    with pytest.raises(BadInput, match="cannot be read"):
        Shelf(net, tmp_path / "none")
    other = Transformer(CFG, Rng((1,)))
    fit(other, [MoE(8, 2, ffn=7)], Rng((0,)))
    with pytest.raises(BadInput, match="holds no plain"):
        Shelf(other, tmp_path)
    with pytest.raises(BadInput, match="held"):
        Fetcher(net, Shelf(net, tmp_path).read, -1)
