"""Stacks of blocks: signs packed and back, folders read to the last bit and to any budget, and damage named in a sentence."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from bloomery.core.errors import BadInput
from bloomery.nn import compressed_tensors, gguf, packed
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.packed import Packed, Quantized
from bloomery.nn.saving import digest, load, save
from bloomery.nn.stacked import Stacked, pack, unpack, within

NAMES = ("blocks.0.mlp.down", "blocks.1.mixer.out")


def drawn(rows: int, columns: int, places: list[int], signs: bool = True, scaled: bool = True, seed: int = 0) -> Stacked:
    g, blocks = torch.Generator().manual_seed(seed), len(places)
    left, right = (torch.randn(blocks, *shape, generator=g).half() for shape in ((rows, 2), (2, columns)))
    minus = torch.stack([pack(torch.randn(rows, columns, generator=g) < 0) for _ in places])
    scale = (0.5 + torch.rand(columns, generator=g)).half()
    return Stacked(left, right, minus if signs else None, scale if scaled else None, torch.tensor(places, dtype=torch.int32), "drawn")


def small(**more) -> Transformer:
    net = Transformer(Config(vocab=31, width=16, layers=2, heads=4, kv_heads=2, ffn=21, context=32))
    net.set_submodule(NAMES[0], Quantized(drawn(16, 21, [0, 2, 5], **more)))
    net.set_submodule(NAMES[1], Quantized(drawn(16, 16, [1, 3, 4], **more, seed=1)))
    return net


@pytest.mark.parametrize("columns", [1, 7, 8, 9, 64])
def test_signs_come_back_and_are_as_short_as_can_be(columns):
    minus = torch.randn(5, columns, generator=torch.Generator().manual_seed(columns)) < 0
    bytes_OS = pack(minus)
    assert bytes_OS.dtype == torch.uint8 and bytes_OS.shape == (5, -(-columns // 8))
    assert unpack(bytes_OS, columns).equal(1 - 2 * minus.to(torch.int8))
    number = sum(int(bit) << i for i, bit in enumerate(minus[0]))
    assert sum(int(byte) << (8 * i) for i, byte in enumerate(bytes_OS[0])) == number


def test_dense_is_the_sum_of_signs_times_products_over_the_scale():
    one = drawn(4, 11, [0, 1, 2])
    parts = zip(one.left_NOK.double(), one.right_NKI.double(), one.signs_NOS, strict=True)
    wanted = sum(unpack(signs, 11).double() * (left @ right) for left, right, signs in parts)
    assert torch.allclose(one.dense().double(), wanted / one.scale_I.double(), rtol=1e-6)
    assert not one.first(2).dense().equal(one.dense()) and one.first(3).dense().equal(one.dense())
    assert one.bytes == sum(t.nbytes for t in one.tensors().values()) and one.bits == 8 * one.bytes / 44
    assert one.bytes - one.first(2).bytes == one.block_bytes


@pytest.mark.parametrize("more", [{}, {"signs": False}, {"scaled": False}], ids=["whole", "no signs", "no scale"])
def test_a_folder_gives_the_same_blocks_and_weights_back(tmp_path, more):
    net = small(**more)
    save(net, tmp_path, {"head": "its weight is the embedding"})
    back = packed.read(tmp_path)
    assert set(back) == set(NAMES) and packed.skipped(tmp_path) == {"head": "its weight is the embedding"}
    for name in NAMES:
        one = net.get_submodule(name).packed
        assert back[name].about() == one.about() and set(back[name].tensors()) == set(one.tensors())
        assert all(t.equal(one.tensors()[part]) for part, t in back[name].tensors().items())
    loaded = load(tmp_path)
    assert digest(loaded) == digest(net) and type(loaded.get_submodule(NAMES[0])) is torch.nn.Linear
    assert sum(t.nbytes for name, t in load_file(tmp_path / "model.safetensors").items() if name.startswith(NAMES)) == sum(
        one.bytes for one in back.values()
    )


def test_any_budget_loads_the_blocks_that_come_first(tmp_path):
    net = small()
    save(net, tmp_path)
    stacks = {name: net.get_submodule(name).packed for name in NAMES}
    fixed, each = sum(one.fixed_bytes for one in stacks.values()), [stacks[name].block_bytes for name in NAMES]
    for (a, b), budget in {
        (1, 1): fixed + each[0] + each[1], (2, 1): fixed + 2 * each[0] + each[1], (2, 2): fixed + 2 * each[0] + 2 * each[1] + 1,
        (2, 3): fixed + 2 * each[0] + 3 * each[1], (3, 3): 10**6,
    }.items():  # fmt: skip
        chosen = within(stacks, budget)
        assert [one.blocks for one in chosen.values()] == [a, b]
        loaded = load(tmp_path, budget=budget)
        assert loaded.get_submodule(NAMES[0]).weight.equal(stacks[NAMES[0]].first(a).dense())
        assert loaded.get_submodule(NAMES[1]).weight.equal(stacks[NAMES[1]].first(b).dense())
    assert digest(load(tmp_path, budget=10**6)) == digest(load(tmp_path))
    with pytest.raises(BadInput, match=f"too small: one block of each of 2 linears takes {fixed + sum(each)} bytes"):
        load(tmp_path, budget=fixed + sum(each) - 1)


def test_codes_and_stacks_lie_in_one_folder_and_codes_alone_have_no_budget(tmp_path):
    net, codes = small(), Packed(torch.ones(42, 16, dtype=torch.int8), torch.ones(42, 2).half(), None, 4, 8)
    net.set_submodule("blocks.0.mlp.gate_up", Quantized(codes))
    save(net, tmp_path)
    assert digest(load(tmp_path)) == digest(net)
    whole = sum(one.bytes for one in packed.read(tmp_path).values())
    assert digest(load(tmp_path, budget=whole)) == digest(net) != digest(load(tmp_path, budget=whole - 1))
    (tmp_path / "codes").mkdir()
    for name in NAMES:
        net.set_submodule(name, torch.nn.Linear(net.get_submodule(name).in_features, 16, bias=False))
    save(net, tmp_path / "codes")
    with pytest.raises(BadInput, match="holds no stacks of blocks"):
        load(tmp_path / "codes", budget=10**6)


def test_exports_write_it_dense_or_refuse_it():
    net = small()
    stacks = {name: net.get_submodule(name).packed for name in NAMES}
    with pytest.raises(BadInput, match=r"blocks.0.mlp.down is a stack of blocks, and compressed-tensors holds codes"):
        compressed_tensors.refuse(net, stacks)
    found = list(gguf.contents(net, stacks, "F16", "F16")) + list(gguf.contents(net, stacks, "Q4_0", "F16"))
    assert all(one.how != gguf.KEPT for one in found)


SPOILED = {
    "blocks": (lambda a, s: a.update(blocks=2), "left should be"),
    "no rank": (lambda a, s: a.pop("rank"), "make no sense"),
    "true rank": (lambda a, s: a.update(rank=True), "make no sense"),
    "flag": (lambda a, s: a.update(signs=1), "make no sense"),
    "signs": (lambda a, s: a.update(signs=False), "signs should be absent"),
    "lost signs": (lambda a, s: s.pop(f"{NAMES[0]}.signs"), "signs should be"),
    "scale": (lambda a, s: s.update({f"{NAMES[0]}.scale": torch.zeros(21).half()}), "not above 0"),
    "factor": (lambda a, s: s[f"{NAMES[0]}.left"].fill_(float("nan")), "not finite"),
    "places": (lambda a, s: s.update({f"{NAMES[0]}.places": torch.tensor([0, 5, 2], dtype=torch.int32)}), "do not ascend"),
    "columns": (lambda a, s: a.update(columns=22), "right should be"),
}


@pytest.mark.parametrize("how", SPOILED)
def test_damage_is_named(tmp_path, how):
    save(small(), tmp_path)
    change, match = SPOILED[how]
    about, state = json.loads((tmp_path / packed.FILE).read_text()), load_file(tmp_path / "model.safetensors")
    change(about["linears"][NAMES[0]], state)
    (tmp_path / packed.FILE).write_text(json.dumps(about))
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(BadInput, match=match):
        load(tmp_path)
