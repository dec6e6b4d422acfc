"""GGUF: the bytes against the package gguf's own reader and quantizer, for every architecture."""

import gguf as package
import numpy as np
import pytest
import torch

from bloomery.core.errors import BadInput
from bloomery.data.tokenizer import learn
from bloomery.nn import gguf, gguf_blocks
from bloomery.nn.config import Config
from bloomery.nn.gguf_words import read_words
from bloomery.nn.model import Transformer
from bloomery.nn.packed import Packed
from bloomery.nn.saving import plain
from bloomery.seams import Rng

torch.set_num_threads(1)
SHAPE = {"vocab": 274, "width": 64, "layers": 1, "heads": 4, "kv_heads": 2, "ffn": 96, "context": 64}
LLAMA = Config(**SHAPE)
CONFIGS = {
    "llama": LLAMA,
    "llama-biases": Config(**SHAPE, tied=False, qkv_bias=True, out_bias=True, mlp_bias=True),
    "qwen2": Config(**SHAPE, architecture="qwen2", qkv_bias=True),
    "qwen3": Config(**SHAPE, architecture="qwen3", qk_norm=True, head_width=32, tied=False),
    "gpt2": Config(
        **(SHAPE | {"kv_heads": 4}), architecture="gpt2", norm="layer", positions="learned", gated=False, activation="gelu_tanh",
        qkv_bias=True, out_bias=True, mlp_bias=True,
    ),
}  # fmt: skip


def net_of(cfg: Config) -> Transformer:
    """Random weights, gains and biases."""
    net, draw = Transformer(cfg, Rng((7,))), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(5.0) if p.dim() > 1 else p.add_(0.1 * torch.randn(p.shape, generator=draw))
    return net.eval()


def packed_of(rows: int, columns: int, bits: int = 4, group: int = 32, seed: int = 0) -> Packed:
    draw, edge = torch.Generator().manual_seed(seed), 1 << (bits - 1)
    codes = torch.randint(-edge, edge, (rows, columns), generator=draw).to(torch.int8)
    scale = (torch.rand(rows, -(-columns // group), generator=draw) - 0.5).half() / edge
    return Packed(codes, scale, None, bits, group)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("words")
    learn(["some words and some more words"] * 20, 270).save(made)
    return made


@pytest.mark.parametrize(("kind", "bits"), [("Q8_0", 8), ("Q4_0", 4)])
@pytest.mark.parametrize(("columns", "group"), [(96, 32), (128, 64), (160, 64), (96, 96)])
def test_codes_go_into_blocks_without_a_change(kind, bits, columns, group):
    packed = packed_of(5, columns, bits, group)
    assert gguf.fits(packed, kind)
    data = gguf_blocks.coded(packed.codes_OI.numpy(), packed.scale_OG.numpy(), group, kind)
    assert np.array_equal(package.quants.dequantize(data, package.GGMLQuantizationType[kind]), packed.dense().numpy())


def test_codes_that_a_block_cannot_say_are_refused():
    good = packed_of(4, 96)
    assert gguf.fits(good, "Q4_0") and not gguf.fits(good, "Q8_0") and not gguf.fits(good, "F16")
    assert not gguf.fits(packed_of(4, 96, group=16), "Q4_0")
    assert not gguf.fits(packed_of(4, 80, group=32), "Q4_0")
    assert not gguf.fits(Packed(good.codes_OI, good.scale_OG, torch.zeros(4, 3, dtype=torch.int8), 4, 32), "Q4_0")
    assert not gguf.fits(Packed(good.codes_OI, good.scale_OG, None, 4, 32, torch.arange(96)), "Q4_0")


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_0", "Q4_K"])
@pytest.mark.parametrize("name", CONFIGS)
def test_there_and_back(tmp_path, folder, name, kind):
    cfg, file = CONFIGS[name], tmp_path / "model.gguf"
    net, words = net_of(cfg), read_words(folder, cfg.vocab)
    meant = list(gguf.contents(net, {}, kind, "F16" if kind[0] == "Q" else kind))
    stored = gguf.write(file, cfg, meant, words, kind, "tiny")
    keys, values = gguf.read(file)
    assert gguf.differing(meant, values) == [] and gguf.wrong_keys(cfg, words, keys) == []
    assert sum(one.numbers for one in stored) == cfg.parameters()
    back, state = gguf.to_ours(cfg, values), plain(net)
    assert back.keys() == state.keys()
    for key, found in back.items():
        if kind == "F32" or found.dim() == 1 or key == "positions.weight":
            assert found.equal(state[key]), key
        elif kind == "F16" or key in ("embed.weight", "head.weight"):
            assert found.equal(state[key].half().float()), key
        else:
            assert (found - state[key]).abs().max() < (0.01 if kind == "Q8_0" else 0.2) * state[key].abs().max(), key


def test_a_llama_has_its_query_rows_turned_and_a_qwen_has_not():
    for name, turned in (("llama", True), ("qwen2", False)):
        net = net_of(CONFIGS[name])
        values = {one.name: one.values for one in gguf.contents(net, {}, "F32", "F32")}
        rows = net.blocks[0].mixer.qkv.weight.detach().numpy()[: CONFIGS[name].query_width]
        first = values["blk.0.attn_q.weight"][:16]  # one head: halves 0-7 and 8-15 become neighbours
        wanted = rows[[0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15]] if turned else rows[:16]
        assert np.array_equal(first, wanted)


def test_packed_linears_keep_their_codes_through_the_file(tmp_path, folder):
    net, file = net_of(LLAMA), tmp_path / "model.gguf"
    linears = {name: unit for name, unit in net.named_modules() if isinstance(unit, torch.nn.Linear) and name != "head"}
    packed = {name: packed_of(*unit.weight.shape, seed=i) for i, (name, unit) in enumerate(linears.items())}
    with torch.no_grad():
        for name, one in packed.items():
            linears[name].weight.copy_(one.dense())
    stored = gguf.write(file, LLAMA, gguf.contents(net, packed, "Q4_0", "F16"), read_words(folder, LLAMA.vocab), "Q4_0", "tiny")
    assert {one.how for one in stored if one.type == "Q4_0"} == {gguf.KEPT}
    assert sum(one.type == "Q4_0" for one in stored) == 7
    back = gguf.to_ours(LLAMA, gguf.read(file)[1])
    assert all(back[f"{name}.weight"].equal(one.dense()) for name, one in packed.items())
    assert {one.how for one in gguf.contents(net, packed, "Q8_0", "F16") if one.type == "Q8_0"} == {gguf.QUANTIZED}


def test_rows_that_are_no_multiple_of_32_stay_fp16():
    cfg = Config(**(SHAPE | {"ffn": 80}))
    types = {one.name: one.type for one in gguf.contents(net_of(cfg), {}, "Q4_0", "Q8_0")}
    assert types["blk.0.ffn_down.weight"] == "F16" and types["blk.0.ffn_up.weight"] == "Q4_0"
    assert types["token_embd.weight"] == "Q8_0" and types["blk.0.attn_norm.weight"] == "F32"
    wide = Config(**(SHAPE | {"ffn": 256}))
    types = {one.name: one.type for one in gguf.contents(net_of(wide), {}, "Q4_K", "F16")}
    assert types["blk.0.ffn_down.weight"] == "Q4_K" and types["blk.0.ffn_up.weight"] == "Q8_0"


def test_a_weight_beyond_fp16_is_refused_by_name():
    net = net_of(LLAMA)
    with torch.no_grad():
        net.blocks[0].mlp.down.weight[3, 5] = 1e6
    with pytest.raises(BadInput, match=r"blk\.0\.ffn_down\.weight holds numbers beyond the range of fp16"):
        list(gguf.contents(net, {}, "F16", "F16"))


def test_a_changed_tensor_and_a_changed_key_are_found(tmp_path, folder):
    net, file, words = net_of(LLAMA), tmp_path / "model.gguf", read_words(folder, LLAMA.vocab)
    meant = list(gguf.contents(net, {}, "F16", "F16"))
    gguf.write(file, LLAMA, meant, words, "F16", "tiny")
    keys, values = gguf.read(file)
    values["blk.0.ffn_up.weight"][1, 1] += 1e-3
    del values["output_norm.weight"]
    assert sorted(gguf.differing(meant, values)) == ["blk.0.ffn_up.weight", "output_norm.weight"]
    assert gguf.wrong_keys(LLAMA, words, keys | {"llama.rope.freq_base": 5e5}) == ["llama.rope.freq_base"]
    with pytest.raises(BadInput, match=r"output_norm\.weight"):
        gguf.to_ours(LLAMA, values)


def test_what_a_file_would_leave_out_is_refused():
    from dataclasses import replace

    from bloomery.nn.config import RopeScaling

    cfg = Config(vocab=31, width=16, layers=2, heads=4, kv_heads=2, ffn=24, context=32)
    for changes, word in [
        ({"architecture": "gemma2"}, "GGUF file of gemma2 is not written yet"), ({"windows": (8,)}, "leave out windows"),
        ({"rope_scaling": RopeScaling("linear", 2.0)}, "leave out rope_scaling"),
            ({"head_divisor": 2.0}, "LlamaForCausalLM cannot say head_divisor"),
    ]:  # fmt: skip
        with pytest.raises(BadInput, match=word):
            gguf.writable(replace(cfg, **changes))
