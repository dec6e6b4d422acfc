"""The layout of GPTQ: words against a plain loop over the written specification, and the way back."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from coded import model, packed_of
from safetensors.torch import load_file, save_file

from bloomery.core.errors import BadInput
from bloomery.infer.model import load
from bloomery.nn import gptq_layout, hf
from bloomery.nn.config import Config
from bloomery.nn.packed import Packed
from bloomery.nn.parts import Source
from bloomery.nn.saving import plain

torch.set_num_threads(1)
SHAPE = {"vocab": 270, "width": 64, "layers": 1, "heads": 4, "kv_heads": 2, "ffn": 96, "context": 64}


def by_the_letter(state: dict, name: str, bits: int, less: int) -> np.ndarray:
    """The weight (O, I), one number after the other: element i of a stream is in bits i x bits and following."""

    def at(words: list[int], i: int) -> int:
        whole = sum((word & 0xFFFFFFFF) << (32 * k) for k, word in enumerate(words))
        return whole >> (i * bits) & ((1 << bits) - 1)

    codes, zeros = state[f"{name}.qweight"].tolist(), state[f"{name}.qzeros"].tolist()
    scales, group = state[f"{name}.scales"].float().numpy(), state[f"{name}.g_idx"].tolist()
    found = np.zeros((scales.shape[1], len(group)), dtype=np.float32)
    for o in range(found.shape[0]):
        column = [row[o] for row in codes]
        for i, g in enumerate(group):
            found[o, i] = scales[g, o] * (at(column, i) - (at(zeros[g], o) + less))
    return found


@pytest.mark.parametrize(("bits", "zeros"), [(2, False), (3, False), (4, False), (8, False), (4, True), (3, True)])
def test_every_number_is_where_the_layout_says(tmp_path, words, bits, zeros):
    net, packed = model(Config(**SHAPE), bits=bits, zeros=zeros, signed=True)
    gptq_layout.write(net, packed, words, tmp_path)
    state, told = load_file(tmp_path / "model.safetensors"), hf.codes_of(tmp_path)
    assert (told["bits"], told["group_size"], told["sym"], told["desc_act"]) == (bits, 32, not zeros, False)
    assert told["checkpoint_format"] == ("gptq_v2" if zeros else "gptq") and "dynamic" not in told
    whole, name = packed["blocks.0.mixer.qkv"], "model.layers.0.self_attn.k_proj"
    assert state[f"{name}.qweight"].shape == (64 * bits // 32, 32) and state[f"{name}.qzeros"].shape == (2, bits)
    assert state[f"{name}.scales"].dtype == torch.float16 and state[f"{name}.g_idx"].tolist() == [0] * 32 + [1] * 32
    assert np.array_equal(by_the_letter(state, name, bits, 0 if zeros else 1), whole.dense()[64:96].numpy())
    cfg, back = hf.from_hf(tmp_path)
    assert cfg == net.cfg and all(back[key].equal(t) for key, t in plain(net).items())


def test_a_folder_is_loaded_and_continued_but_not_read_in_parts(tmp_path, words):
    net, packed = model(Config(**SHAPE), signed=True)
    gptq_layout.write(net, packed, words, tmp_path)
    ids = torch.arange(20)[None]
    assert load(tmp_path).net(ids).equal(net(ids))
    with pytest.raises(BadInput, match="not read part by part"):
        Source(tmp_path)


def test_other_kinds_and_dense_linears_are_named(tmp_path, words):
    net, packed = model(Config(**SHAPE, architecture="qwen2", qkv_bias=True, tied=False), signed=True)
    packed["blocks.0.mlp.down"] = packed_of(64, 96, 8, 96, signed=True)
    del packed["blocks.0.mixer.out"]
    with torch.no_grad():
        net.blocks[0].mlp.down.weight.copy_(packed["blocks.0.mlp.down"].dense())
    gptq_layout.write(net, packed, words, tmp_path)
    dynamic = hf.codes_of(tmp_path)["dynamic"]
    named = {key: value for key, value in dynamic.items() if re.match(key[2:], "model.layers.0.mlp.down_proj")}
    assert list(named.values()) == [{"bits": 8, "group_size": -1, "sym": True}] and next(iter(named))[:2] == "+:"
    assert [value for key, value in dynamic.items() if key[:2] == "-:" and re.match(key[2:], "model.layers.0.self_attn.o_proj")] == [{}]
    assert all(t.equal(plain(net)[key]) for key, t in hf.from_hf(tmp_path)[1].items())


def test_zeros_that_were_stored_as_they_are_under_the_first_name_are_known(tmp_path, words):
    net, packed = model(Config(**SHAPE), signed=True)
    gptq_layout.write(net, packed, words, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    for name in [name for name in state if name.endswith(".qzeros")]:
        state[name] = torch.full_like(state[name], -0x77777778)  # eights
    save_file(state, tmp_path / "model.safetensors")
    assert all(t.equal(plain(net)[key]) for key, t in hf.from_hf(tmp_path)[1].items())


def test_eights_that_are_zeros_of_nine_are_so_where_codes_have_zeros(tmp_path, words):
    net, packed = model(Config(**SHAPE), signed=True)
    gptq_layout.write(net, packed, words, tmp_path)
    state, config = load_file(tmp_path / "model.safetensors"), json.loads((tmp_path / "config.json").read_text())
    for name in [name for name in state if name.endswith(".qzeros")]:
        state[name] = torch.full_like(state[name], -0x77777778)
    save_file(state, tmp_path / "model.safetensors")
    config["quantization_config"]["sym"] = False
    (tmp_path / "config.json").write_text(json.dumps(config))
    back = hf.from_hf(tmp_path)[1]
    for name, one in packed.items():
        lower = one.dense() - one.scale_OG.float().repeat_interleave(one.group, dim=1)
        assert torch.allclose(back[f"{name}.weight"], lower, atol=1e-6)


def test_what_cannot_be_said_or_read_is_refused(tmp_path, words):
    net, packed = model(Config(**SHAPE), signed=True)
    with pytest.raises(BadInput, match="gptq has 2, 3, 4, 8"):
        gptq_layout.refuse(net, packed | {"blocks.0.mlp.down": packed_of(64, 96, 5, signed=True)})
    with pytest.raises(BadInput, match="fill no int32 exactly"):
        gptq_layout.refuse(net, packed | {"blocks.0.mlp.down": packed_of(64, 100, 4, 100, signed=True)})
    with pytest.raises(BadInput, match="is not compressed, and gptq holds codes"):
        gptq_layout.refuse(net, {})
    gptq_layout.write(net, packed, words, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    name = "model.layers.0.mlp.up_proj"
    for wrong, said in [
        ({f"{name}.scales": state[f"{name}.scales"][:, :-1].clone()}, "do not fit together"),
        ({f"{name}.g_idx": state[f"{name}.g_idx"] + 1}, "groups of inputs that it has no scales of"),
    ]:  # fmt: skip
        save_file(state | wrong, tmp_path / "model.safetensors")
        with pytest.raises(BadInput, match=said):
            hf.from_hf(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"]["checkpoint_format"] = "marlin"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match="'marlin' is not read"):
        hf.from_hf(tmp_path)


@pytest.mark.parametrize(("bits", "columns"), [(8, 36), (4, 40), (2, 48)])
def test_columns_that_fill_words_but_no_cycle_of_them_are_read(bits, columns):
    edge = 1 << (bits - 1)
    codes = torch.randint(-edge, edge, (32, columns), generator=torch.Generator().manual_seed(0)).to(torch.int8)
    one = Packed(codes, torch.full((32, 1), 0.5).half(), None, bits, columns)
    held = {f"a.{part}": t.contiguous() for part, t in gptq_layout.parts(one, slice(None), gptq_layout.FIRST).items()}
    read = gptq_layout.dense(held, {"checkpoint_format": gptq_layout.FIRST, "sym": True}, Path("here"))
    assert read["a.weight"].equal(one.dense())
