"""Packed linears: the stream of bits, folders read back bit for bit, and damage named in a sentence."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from bloomery.core.errors import BadInput
from bloomery.nn import packed
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.packed import Packed, Quantized, pack, unpack
from bloomery.nn.saving import digest, load, plain, save

NAME = "blocks.0.mlp.down"


def drawn(rows: int, columns: int, bits: int, group: int, zero: bool = False, order: bool = False) -> Packed:
    g, edge = torch.Generator().manual_seed(bits), 1 << (bits - 1)
    groups = -(-columns // group)
    codes = torch.randint(-edge, edge, (rows, columns), generator=g).to(torch.int8)
    scale = (torch.randn(rows, groups, generator=g) * 0.01).half()
    zeros = torch.randint(-edge, edge, (rows, groups), generator=g).to(torch.int8) if zero else None
    return Packed(codes, scale, zeros, bits, group, torch.randperm(columns, generator=g) if order else None, "drawn")


def small(bits: int = 4, **more) -> Transformer:
    net = Transformer(Config(vocab=31, width=16, layers=2, heads=4, kv_heads=2, ffn=24, context=32))
    net.set_submodule(NAME, Quantized(drawn(16, 24, bits, 10, **more)))
    return net


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("columns", [1, 7, 32, 33, 96])
def test_the_stream_of_bits_comes_back_and_is_as_short_as_can_be(bits, columns):
    codes = drawn(5, columns, bits, 4).codes_OI
    words = pack(codes, bits)
    assert words.dtype == torch.int32 and words.shape == (5, -(-columns * bits // 32))
    assert unpack(words, bits, columns).equal(codes)
    number = sum((int(code) + (1 << (bits - 1))) << (i * bits) for i, code in enumerate(codes[0]))
    assert sum((int(word) & 0xFFFFFFFF) << (32 * i) for i, word in enumerate(words[0])) == number


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_compressed_tensors_packs_the_same_way(bits):
    theirs = pytest.importorskip("compressed_tensors.compressors.pack_quantized.helpers")
    codes = drawn(6, 64, bits, 32).codes_OI
    assert theirs.pack_to_int32(codes, bits).equal(pack(codes, bits))


def test_dense_is_codes_times_scale_column_by_column():
    one = drawn(4, 21, 4, 8, zero=True, order=True)
    dense = one.dense()
    for k in range(21):
        wanted = (one.codes_OI[:, k].double() - one.zero_OG[:, k // 8].double()) * one.scale_OG[:, k // 8].double()
        assert dense[:, one.order[k]].double().equal(wanted)


@pytest.mark.parametrize("more", [{}, {"zero": True}, {"zero": True, "order": True}], ids=["symmetric", "asymmetric", "ordered"])
@pytest.mark.parametrize("bits", [3, 4, 8])
def test_a_folder_gives_the_same_codes_and_weights_back(tmp_path, bits, more):
    net = small(bits, **more)
    save(net, tmp_path, {"head": "its weight is the embedding"})
    one, back = net.get_submodule(NAME).packed, packed.read(tmp_path)
    assert list(back) == [NAME] and packed.skipped(tmp_path) == {"head": "its weight is the embedding"}
    assert back[NAME].codes_OI.equal(one.codes_OI) and back[NAME].scale_OG.equal(one.scale_OG) and back[NAME].about() == one.about()
    loaded = load(tmp_path)
    assert digest(loaded) == digest(net) and type(loaded.get_submodule(NAME)) is torch.nn.Linear
    tokens = torch.arange(20)[None]
    assert torch.equal(net(tokens), loaded(tokens))
    assert load(tmp_path, torch.bfloat16).get_submodule(NAME).weight.equal(one.dense().bfloat16())
    assert {"codes", "scale"} <= {name.removeprefix(f"{NAME}.") for name in load_file(tmp_path / "model.safetensors")}


def test_a_dense_folder_has_nothing_packed(tmp_path):
    save(Transformer(Config(vocab=31, width=16, layers=1, heads=4, kv_heads=2, ffn=24, context=32)), tmp_path)
    assert packed.read(tmp_path) == {} and packed.skipped(tmp_path) == {}


def test_the_rest_is_stored_narrow_only_where_nothing_is_lost(tmp_path):
    net = small()
    with pytest.raises(ValueError, match="round it before saving"):
        save(net, tmp_path, rest=torch.float16)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(p.half() if not p.equal(net.get_submodule(NAME).weight) else p)
    save(net, tmp_path, rest=torch.float16)
    assert load_file(tmp_path / "model.safetensors")["embed.weight"].dtype == torch.float16
    assert all(torch.equal(t, plain(load(tmp_path))[name]) for name, t in plain(net).items())


def test_a_weight_that_left_its_codes_is_not_saved(tmp_path):
    net = small()
    net.get_submodule(NAME).weight.data[0, 0] += 1e-3
    with pytest.raises(ValueError, match="no longer what its codes stand for"):
        save(net, tmp_path)


def spoil(folder, change) -> None:
    about = json.loads((folder / packed.FILE).read_text())
    state = load_file(folder / "model.safetensors")
    change(about, state)
    (folder / packed.FILE).write_text(json.dumps(about))
    save_file(state, folder / "model.safetensors")


SPOILED = {
    "bits": (lambda a, s: a["linears"][NAME].update(bits=5), "codes should be"),
    "no bits": (lambda a, s: a["linears"][NAME].pop("bits"), "bits"),
    "wild bits": (lambda a, s: a["linears"][NAME].update(bits=40), "make no sense"),
    "true bits": (lambda a, s: a["linears"][NAME].update(bits=True), "make no sense"),
    "group": (lambda a, s: a["linears"][NAME].update(group=4), "scale should be"),
    "symmetric": (lambda a, s: a["linears"][NAME].update(symmetric=False), "zero should be"),
    "scale": (lambda a, s: s.update({f"{NAME}.scale": torch.full((16, 3), float("nan")).half()}), "not finite"),
    "scale type": (lambda a, s: s.update({f"{NAME}.scale": torch.ones(16, 3)}), "scale should be"),
    "zero": (
        lambda a, s: s.update({f"{NAME}.zero": torch.full((16, 3), 8).to(torch.int8)}) or a["linears"][NAME].update(symmetric=False),
        "out of range",
    ),
    "order": (lambda a, s: s.update({f"{NAME}.order": torch.zeros(24, dtype=torch.int32)}), "every column once"),
    "codes": (lambda a, s: s.pop(f"{NAME}.codes"), "codes should be"),
    "another": (lambda a, s: a["linears"].update({"blocks.9.up": a["linears"][NAME]}), "blocks.9.up"),
    "none": (lambda a, s: a.pop("linears"), "cannot be read"),
    "double": (lambda a, s: s.update({f"{NAME}.weight": torch.zeros(16, 24)}), "both packed and dense"),
    "untold": (lambda a, s: a["linears"].clear(), "do not fit"),
}


@pytest.mark.parametrize("how", SPOILED)
def test_damage_is_named(tmp_path, how):
    save(small(), tmp_path)
    change, match = SPOILED[how]
    spoil(tmp_path, change)
    with pytest.raises(BadInput, match=match):
        load(tmp_path)


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("bits", [3, 4])
def test_codes_of_zeros_are_not_stored_and_come_back(tmp_path, bits, zero):
    whole = drawn(16, 24, bits, 10, zero)
    empty = torch.rand(16, 24, generator=torch.Generator().manual_seed(1)) < 0.6
    fill = packed.spread(whole.zero_OG, 10, 24) if zero else torch.zeros_like(whole.codes_OI)
    whole = Packed(torch.where(empty, fill, whole.codes_OI), whole.scale_OG, whole.zero_OG, bits, 10)
    thin = whole.thin()
    assert thin.masked and thin.dense().equal(whole.dense()) and thin.bytes < whole.bytes
    assert thin.bytes == sum(t.nbytes for t in thin.tensors().values())
    net = small(bits)
    net.set_submodule(NAME, Quantized(thin))
    save(net, tmp_path)
    back = packed.read(tmp_path)[NAME]
    assert back.codes_OI.equal(whole.codes_OI) and back.masked and back.bytes == thin.bytes and digest(load(tmp_path)) == digest(net)
    state = load_file(tmp_path / "model.safetensors")
    for wrong, said in [
        ({f"{NAME}.mask": state[f"{NAME}.mask"] | 255}, "codes should be"),
        ({f"{NAME}.mask": state[f"{NAME}.mask"][:, :2].clone()}, "mask"),
        ({f"{NAME}.mask": torch.zeros_like(state[f"{NAME}.mask"])}, "codes should be"),
    ]:  # fmt: skip
        save_file(state | wrong, tmp_path / "model.safetensors")
        with pytest.raises(BadInput, match=said):
            packed.read(tmp_path)


def test_a_weight_with_few_zeros_or_none_at_all_keeps_its_codes():
    one = drawn(16, 24, 4, 8)
    assert one.thin() is one
    nothing = Packed(torch.zeros(4, 8, dtype=torch.int8), torch.ones(4, 1).half(), None, 4, 8)
    assert nothing.thin() is nothing
