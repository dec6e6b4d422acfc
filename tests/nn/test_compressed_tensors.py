"""The pack-quantized format against the package compressed-tensors, and what it cannot say."""

import json

import pytest
import torch
from coded import model, packed_of
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from safetensors.torch import load_file

from bloomery.core.errors import BadInput
from bloomery.nn import compressed_tensors
from bloomery.nn.config import Config
from bloomery.nn.packed import Packed

torch.set_num_threads(1)
SHAPE = {"vocab": 270, "width": 64, "layers": 1, "heads": 4, "kv_heads": 2, "ffn": 96, "context": 64}


@pytest.mark.parametrize(("bits", "zeros"), [(4, False), (8, False), (4, True)])
def test_rows_and_words_are_those_of_the_package(tmp_path, words, bits, zeros):
    net, packed = model(Config(**SHAPE), bits=bits, zeros=zeros)
    compressed_tensors.write(net, packed, words, tmp_path)
    found = load_file(tmp_path / "model.safetensors")
    whole, at = packed["blocks.0.mixer.qkv"], 0
    for name, rows in (("q", 64), ("k", 32), ("v", 32)):
        part = f"model.layers.0.self_attn.{name}_proj"
        codes = whole.codes_OI[at : at + rows]
        assert found[f"{part}.weight_packed"].equal(pack_to_int32(codes, bits))
        assert found[f"{part}.weight_shape"].tolist() == [rows, 64] and f"{part}.weight" not in found
        assert found[f"{part}.weight_scale"].float().equal(whole.scale_OG[at : at + rows].float())
        if zeros:
            assert found[f"{part}.weight_zero_point"].equal(pack_to_int32(whole.zero_OG[at : at + rows], bits, packed_dim=0))
        at += rows
    assert found["model.embed_tokens.weight"].dtype == torch.float32
    config = json.loads((tmp_path / "config.json").read_text())["quantization_config"]
    weights = config["config_groups"]["group_0"]["weights"]
    assert (weights["num_bits"], weights["group_size"], weights["symmetric"]) == (bits, 32, not zeros)
    assert config["ignore"] == ["lm_head"] and config["config_groups"]["group_0"]["targets"] == ["Linear"]


def test_linears_of_two_kinds_are_named_one_by_one(tmp_path, words):
    net, packed = model(Config(**SHAPE, architecture="qwen2", qkv_bias=True, tied=False))
    packed["blocks.0.mlp.down"] = packed_of(64, 96, 8, 96)
    del packed["blocks.0.mixer.out"]
    compressed_tensors.write(net, packed, words, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())["quantization_config"]
    groups = list(config["config_groups"].values())
    assert groups[1]["targets"] == ["model.layers.0.mlp.down_proj"] and groups[1]["weights"]["strategy"] == "channel"
    assert groups[0]["targets"][:3] == [f"model.layers.0.self_attn.{x}_proj" for x in "qkv"]
    assert config["ignore"] == ["model.layers.0.self_attn.o_proj", "lm_head"]


def test_what_the_format_cannot_say_is_refused_by_name():
    net, packed = model(Config(**SHAPE))
    with pytest.raises(BadInput, match="is not compressed"):
        compressed_tensors.refuse(net, {})
    one = packed["blocks.0.mlp.down"]
    ordered = Packed(one.codes_OI, one.scale_OG, None, 4, 32, torch.arange(96))
    with pytest.raises(BadInput, match=r"blocks\.0\.mlp\.down has its columns in another order"):
        compressed_tensors.refuse(net, packed | {"blocks.0.mlp.down": ordered})
    with pytest.raises(BadInput, match="which groups of 64 do not divide"):
        compressed_tensors.refuse(net, packed | {"blocks.0.mlp.down": packed_of(64, 96, group=64)})
    with pytest.raises(BadInput, match="compress symmetrically"):
        compressed_tensors.refuse(net, packed | {"blocks.0.mlp.down": packed_of(64, 96, zeros=True)})
    gpt2 = Config(
        **(SHAPE | {"kv_heads": 4}), architecture="gpt2", norm="layer", positions="learned", gated=False, activation="gelu_tanh",
        qkv_bias=True, out_bias=True, mlp_bias=True,
    )  # fmt: skip
    with pytest.raises(BadInput, match="Conv1D layers of gpt2"):
        compressed_tensors.refuse(*model(gpt2))
