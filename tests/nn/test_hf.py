import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from bloomery.core.errors import BadInput
from bloomery.nn.config import Config
from bloomery.nn.hf import from_hf, read_config, to_hf
from bloomery.nn.model import Transformer
from bloomery.nn.saving import assemble, plain
from bloomery.seams import Rng

torch.set_num_threads(1)
SHAPES = [{"kv_heads": 2, "tied": True}, {"kv_heads": 4, "tied": False}, {"kv_heads": 1, "tied": False}, {"kv_heads": 4, "tied": True}]


def make(**changes) -> Transformer:
    shape = {"vocab": 97, "width": 32, "layers": 2, "heads": 4, "kv_heads": 2, "ffn": 48, "context": 64}
    shape |= {"rope_base": 5000.0, "norm_eps": 2e-5}
    net = Transformer(Config(**{**shape, **changes}), Rng((3,))).eval()
    with torch.no_grad():  # larger than at initialization, so that every part matters to the logits
        for p in net.parameters():
            p.mul_(5.0) if p.dim() > 1 else p.add_(torch.linspace(-0.5, 0.5, len(p)))
    return net


@pytest.mark.parametrize("shape", SHAPES)
def test_transformers_computes_the_same_logits(tmp_path, shape):
    from transformers import AutoModelForCausalLM

    net = make(**shape)
    to_hf(net, None, tmp_path)
    theirs, info = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert theirs.dtype == torch.float32 and theirs.config.rope_parameters["rope_theta"] == 5000.0
    tokens = torch.randint(0, 97, (3, 64), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert (theirs(tokens).logits - net.logits(net(tokens))).abs().max() < 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_there_and_back_is_bitwise(tmp_path, shape):
    net = make(**shape)
    to_hf(net, None, tmp_path)
    cfg, state = from_hf(tmp_path)
    assert cfg == net.cfg and state.keys() == plain(net).keys()
    assert all(torch.equal(state[name], value) for name, value in plain(net).items())


@pytest.mark.parametrize("tied", [True, False])
def test_a_folder_that_transformers_wrote_is_read(tmp_path, tied):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=53, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1, intermediate_size=40,
        max_position_embeddings=48, rope_parameters={"rope_type": "default", "rope_theta": 777.0}, tie_word_embeddings=tied,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = LlamaForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path, max_shard_size="10kB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    cfg, state = from_hf(tmp_path)
    net = assemble(cfg, state, torch.float32, tmp_path)
    tokens = torch.arange(40)[None]
    with torch.inference_mode():
        assert (theirs(tokens).logits - net.logits(net(tokens))).abs().max() < 1e-5
    assert cfg.rope_base == 777.0 and cfg.norm_eps == 1e-6


def test_what_this_decoder_would_compute_differently_is_refused_by_name(tmp_path):
    make_config = lambda **changes: {  # noqa: E731
        "architectures": ["LlamaForCausalLM"], "vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 48, **changes,
    }  # fmt: skip
    assert read_config(make_config(), tmp_path).kv_heads == 4
    for changes, word in [
        ({"architectures": ["MambaForCausalLM"]}, "MambaForCausalLM"), ({"rope_scaling": {"rope_type": "llama3"}}, "llama3"),
        ({"attention_bias": True}, "attention_bias"), ({"mlp_bias": True}, "mlp_bias"), ({"hidden_act": "gelu"}, "gelu"),
        ({"head_dim": 16}, "head_dim"), ({"hidden_size": None}, "Llama"),
    ]:  # fmt: skip
        with pytest.raises(BadInput, match=word):
            read_config(make_config(**changes), tmp_path)


def test_bad_folders_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(BadInput, match=r"config\.json"):
        from_hf(tmp_path)
    to_hf(make(), None, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({**weights, "model.layers.0.self_attn.q_proj.bias": torch.zeros(32)}, tmp_path / "model.safetensors")
    with pytest.raises(BadInput, match=r"q_proj\.bias"):
        from_hf(tmp_path)
    del weights["model.norm.weight"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(BadInput, match=r"no tensor model\.norm\.weight"):
        from_hf(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "../model.safetensors"}}))
    with pytest.raises(BadInput, match="outside its folder"):
        from_hf(tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(BadInput, match="unpickled"):
        from_hf(tmp_path)


def test_no_pickle_reader_is_reachable():
    import inspect

    import bloomery.nn.hf as hf
    import bloomery.nn.saving as saving

    assert all("torch.load" not in inspect.getsource(module) and "pickle" not in vars(module) for module in (hf, saving))
