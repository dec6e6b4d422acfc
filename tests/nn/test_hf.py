import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from bloomery.core.errors import BadInput
from bloomery.nn.config import Config
from bloomery.nn.hf import copy_words, end_ids, from_hf, read_config, to_hf
from bloomery.nn.model import Transformer
from bloomery.nn.parts import Source
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


LLAMA = {
    "architectures": ["LlamaForCausalLM"], "vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48,
}  # fmt: skip
QWEN2, QWEN3 = ({**LLAMA, "architectures": [f"Qwen{n}ForCausalLM"], "num_key_value_heads": 2, "head_dim": 8} for n in (2, 3))
GPT2 = {"architectures": ["GPT2LMHeadModel"], "vocab_size": 97, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
MISTRAL = {**LLAMA, "architectures": ["MistralForCausalLM"], "num_key_value_heads": 2, "sliding_window": 9}
ENCODER = {**LLAMA, "architectures": ["ModernBertForMaskedLM"], "local_attention": 16}
PARTS = {kind: {"rope_type": "default", "rope_theta": 1e4} for kind in ("full_attention", "sliding_attention")}
LINEAR, DEFAULT = {"rope_type": "linear", "factor": 4.0}, {"rope_type": "default", "rope_theta": 1e4}
REFUSED = [
    (LLAMA, {"is_causal": False}, "is_causal False is not supported, only True"),
    (LLAMA, {"rope_scaling": LINEAR, "rope_parameters": DEFAULT}, "rope_scaling and rope_parameters say different things"),
    (LLAMA, {"rope_scaling": DEFAULT, "rope_parameters": {**DEFAULT, **LINEAR}}, "rope_scaling and rope_parameters say different"),
    (MISTRAL, {"layer_types": ["sliding_attention", "full_attention"]}, "layer_types .* Ministral"),
    (ENCODER, {"sliding_window": 9}, "sliding_window 9 is not supported, only 8"),
    (ENCODER, {"rope_parameters": {**PARTS, "full_attention": {"type": "linear", "factor": 4.0}}}, "rope_type 'linear'"),
    (ENCODER, {"rope_scaling": {"type": "linear", "factor": 4.0}}, "rope_type 'linear'"),
    (ENCODER, {"local_rope_theta": None}, "does not describe a ModernBert"),
    (LLAMA, {"architectures": ["MambaForCausalLM"]}, "MambaForCausalLM is not supported"),
    (LLAMA, {"architectures": None}, "architecture nothing"),
    (LLAMA, {"architectures": None, "model_type": "qwen4"}, "did you mean qwen3 or qwen2"),
    (LLAMA, {"model_type": "mistral"}, "architectures says LlamaForCausalLM and model_type mistral"),
    (LLAMA, {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "does not describe a LlamaForCausalLM model.*low_freq_factor"),
    (LLAMA, {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type 'dynamic'"),
    (LLAMA, {"rope_scaling": {"type": "longrope", "factor": 2.0}}, "rope_type 'longrope'"),
    (LLAMA, {"rope_scaling": {"type": "linear", "factor": -2.0}}, "factor of rope_scaling must be above 0"),
    (LLAMA, {"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "full_attention"),
    (LLAMA, {"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
    (LLAMA, {"quantization_config": {"bits": 4}}, "quantization_config"),
    (LLAMA, {"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported, only 'silu'"),
    (LLAMA, {"hidden_size": None}, "does not describe a LlamaForCausalLM"),
    (LLAMA, {"vocab_size": 0}, "vocab must be at least 1"),
    (QWEN3, {"layer_types": ["full_attention", "sliding_attention"]}, "use_sliding_window is False"),
    (QWEN3, {"layer_types": ["linear_attention", "full_attention"]}, "linear_attention"),
    (QWEN2, {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "mscale": 0.7}}, "mscale 0.7"),
    (GPT2, {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx True"),
    (GPT2, {"scale_attn_weights": False}, "scale_attn_weights False"),
    (GPT2, {"reorder_and_upcast_attn": True}, "reorder_and_upcast_attn"),
    (GPT2, {"add_cross_attention": True}, "add_cross_attention"),
    (GPT2, {"activation_function": "relu"}, "activation_function 'relu' is not supported, only 'gelu_new' or 'gelu_pytorch_tanh'"),
    (GPT2, {"n_embd": 33}, "multiple of heads"),
    (LLAMA, {"architectures": "LlamaForCausalLM"}, "architectures must be a list"),
    (LLAMA, {"num_attention_heads": 4.0}, "heads must be a whole number, got 4.0"),
    (LLAMA, {"num_key_value_heads": True}, "kv_heads must be a whole number, got True"),
    (LLAMA, {"rms_norm_eps": None}, "norm_eps must be a number, got None"),
    (QWEN3, {"architectures": ["Qwen3MoeForCausalLM"], "decoder_sparse_step": 0}, "does not describe a Qwen3Moe"),
    (LLAMA, {"architectures": ["GraniteForCausalLM"], "attention_multiplier": 0.0}, "does not describe a Granite"),
]


@pytest.mark.parametrize(("config", "changes", "words"), REFUSED)
def test_what_this_decoder_would_compute_differently_is_refused_by_name(tmp_path, config, changes, words):
    assert read_config(config, tmp_path).layers == 2
    with pytest.raises(BadInput, match=words) as told:
        read_config({**config, **changes}, tmp_path / "config.json")
    assert str(told.value).startswith(f"{tmp_path / 'config.json'}")


@pytest.mark.parametrize(("config", "name"), [(LLAMA, "Llama"), (QWEN2, "Qwen2"), (QWEN3, "Qwen3"), (GPT2, "GPT2")])
def test_what_a_config_leaves_out_means_what_it_means_to_transformers(tmp_path, config, name):
    import transformers

    if name.startswith("Qwen"):
        config = {k: v for k, v in config.items() if k not in ("head_dim", "num_key_value_heads")} | {"num_attention_heads": 32}
    if name == "Qwen2":
        config["hidden_size"] = 64
    usual = getattr(transformers, f"{name}Config")(**{k: v for k, v in config.items() if k != "architectures"})
    assert read_config(config, tmp_path) == read_config(json.loads(usual.to_json_string(use_diff=False)), tmp_path)


def test_a_share_of_the_head_under_another_name_is_not_read_where_transformers_does_not(tmp_path):
    """Of a GPT-NeoX it is `rotary_pct`, or an entry of `rope_parameters`."""
    from transformers import GPTNeoXConfig

    shape = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    for told in ({"partial_rotary_factor": 0.5}, {"rotary_pct": 0.75, "partial_rotary_factor": 0.5}, {"rotary_pct": 0.5}, {}):
        wanted = GPTNeoXConfig(**shape, **told).rope_parameters["partial_rotary_factor"]
        assert read_config({"model_type": "gpt_neox", **shape, **told}, tmp_path).rotary_share == wanted, told


def test_rotary_positions_told_twice_alike_are_read(tmp_path):
    theirs = {**LLAMA, "rope_theta": 5e3, "rope_scaling": {"type": "linear", "factor": 4.0}}
    for params in (None, {**LINEAR, "rope_theta": 5e3}, {"type": "linear", **LINEAR, "rope_theta": 5e3}):
        cfg = read_config({**theirs, "rope_parameters": params}, tmp_path)
        assert (cfg.rope_base, cfg.rope_scaling.kind, cfg.rope_scaling.factor) == (5e3, "linear", 4.0)


def test_windows_that_no_layer_uses_are_no_obstacle(tmp_path):
    for changes in ({"use_sliding_window": False, "sliding_window": 16}, {"use_sliding_window": True, "sliding_window": 16}):
        assert read_config({**QWEN2, **changes}, tmp_path).architecture == "qwen2"  # by default the first 28 layers see everything


def test_files_of_the_bare_decoder_and_old_buffers_are_read(tmp_path):
    net = Transformer(read_config(GPT2, tmp_path), Rng((3,)))
    to_hf(net, None, tmp_path)
    weights = {name.removeprefix("transformer."): t for name, t in load_file(tmp_path / "model.safetensors").items()}
    weights |= {"h.0.attn.bias": torch.ones(1, 1, 64, 64).tril(), "h.0.attn.masked_bias": torch.tensor(-1e4)}
    save_file(weights, tmp_path / "model.safetensors")
    _, state = from_hf(tmp_path)
    assert all(torch.equal(state[name], value) for name, value in plain(net).items())


def test_large_weights_become_several_files_with_an_index(tmp_path):
    from transformers import AutoModelForCausalLM

    net = make()
    to_hf(net, None, tmp_path, shard=30_000)
    files = sorted(file.name for file in tmp_path.glob("*.safetensors"))
    assert len(files) > 2 and files[0] == f"model-00001-of-{len(files):05}.safetensors"
    assert all(torch.equal(from_hf(tmp_path)[1][name], value) for name, value in plain(net).items())
    _, info = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]


def test_the_first_files_of_bert_are_read(tmp_path):
    config = {"architectures": ["BertForMaskedLM"], "vocab_size": 31, "hidden_size": 16, "num_hidden_layers": 1}
    net = Transformer(read_config(config | {"num_attention_heads": 2, "intermediate_size": 24}, tmp_path), Rng((3,)))
    to_hf(net, None, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    old = {name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): t for name, t in weights.items()}
    old |= {"cls.predictions.decoder.weight": weights["bert.embeddings.word_embeddings.weight"].clone()}
    old |= {"bert.pooler.dense.weight": torch.zeros(16, 16), "cls.seq_relationship.bias": torch.zeros(2)}
    save_file(old, tmp_path / "model.safetensors")
    assert all(torch.equal(from_hf(tmp_path)[1][name], value) for name, value in plain(net).items())


def test_a_tied_head_is_the_embedding_or_refused(tmp_path):
    net = make(tied=True)
    to_hf(net, None, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({**weights, "lm_head.weight": weights["model.embed_tokens.weight"].clone()}, tmp_path / "model.safetensors")
    assert from_hf(tmp_path)[1].keys() == plain(net).keys()
    save_file({**weights, "lm_head.weight": weights["model.embed_tokens.weight"] + 1}, tmp_path / "model.safetensors")
    with pytest.raises(BadInput, match="tie_word_embeddings"):
        from_hf(tmp_path)


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


@pytest.mark.parametrize("text", ["{", "[1]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": "x", "b": [1]}}'])
def test_an_index_that_is_none_is_refused_in_a_sentence(tmp_path, text):
    to_hf(make(), None, tmp_path, shard=30_000)
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(BadInput, match="does not say which file holds which tensor"):
        from_hf(tmp_path)
    with pytest.raises(BadInput, match="does not say which file holds which tensor"):
        Source(tmp_path)


@pytest.mark.parametrize("text", ["null", "[1]", "3", "{"])
def test_a_config_that_is_none_is_refused_in_a_sentence(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BadInput, match=r"no readable config\.json"):
        from_hf(tmp_path)


@pytest.mark.parametrize("kind", [torch.int8, torch.int32])
def test_whole_numbers_are_no_weights(tmp_path, kind):
    to_hf(make(), None, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    save_file({**weights, name: torch.ones_like(weights[name]).to(kind)}, tmp_path / "model.safetensors")
    with pytest.raises(BadInput, match=f"{name} holds whole numbers"):
        from_hf(tmp_path)
    with pytest.raises(BadInput, match=f"{name} holds whole numbers"):
        Source(tmp_path).read(["blocks.1.mlp.down.weight"])


def test_no_pickle_reader_is_reachable():
    import inspect

    import bloomery.nn.hf as hf
    import bloomery.nn.saving as saving

    assert all("torch.load" not in inspect.getsource(module) and "pickle" not in vars(module) for module in (hf, saving))


@pytest.mark.parametrize("where", ["generation_config.json", "config.json"])
def test_every_end_token_is_written(tmp_path, where):
    from bloomery.data.tokenizer import learn

    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir(), out.mkdir()
    learn(["some words"], 262).save(source)
    to_hf(make(), source, out)
    assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] == 2
    (source / where).write_text(json.dumps({"eos_token_id": 9}))
    words = json.loads((source / "tokenizer_config.json").read_text())
    loop = "{% for m in messages %}{{ m['content'] + '<|turn|>' }}{% endfor %}"
    (source / "tokenizer_config.json").write_text(json.dumps({**words, "chat_template": loop}))
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append({**tokenizer["added_tokens"][-1], "id": 90, "content": "<|turn|>"})
    (source / "tokenizer.json").write_text(json.dumps(tokenizer))
    to_hf(make(), source, out)
    assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] == [2, 9, 90]
    assert json.loads((out / "config.json").read_text())["eos_token_id"] == 2


def test_generation_defaults_tokenizer_and_template_survive_the_way_there_and_back(tmp_path):
    from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

    from bloomery.data.tokenizer import learn

    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir(), out.mkdir()
    learn(["some words"], 262).save(source)
    words = AutoTokenizer.from_pretrained(source)
    turns = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
    words.chat_template = turns + "{% if add_generation_prompt %}>{% endif %}"
    words.save_pretrained(source)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24, "eos_token_id": 2}
    theirs = LlamaForCausalLM(LlamaConfig(vocab_size=262, **shape))
    theirs.generation_config = GenerationConfig(do_sample=True, temperature=0.6, top_k=7, top_p=0.9, eos_token_id=[2, 9])
    theirs.save_pretrained(source)
    cfg, state = from_hf(source)
    to_hf(assemble(cfg, state, torch.float32, source), source, out)
    told = [GenerationConfig.from_pretrained(folder).to_dict() for folder in (source, out)]
    assert {name: one for name, one in told[0].items() if one is not None and told[1].get(name) != one} == {}
    assert (told[1]["temperature"], told[1]["top_k"], told[1]["eos_token_id"]) == (0.6, 7, [2, 9])
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (out / name).read_bytes() == (source / name).read_bytes()
    chat, found = [{"role": "user", "content": "words, some"}], AutoTokenizer.from_pretrained(out)
    assert found.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == "<user>words, some\n>"
    assert found.apply_chat_template(chat) == words.apply_chat_template(chat)


def test_an_unknown_architecture_is_refused_before_a_weight_is_read(tmp_path, monkeypatch):
    import bloomery.nn.hf as hf

    monkeypatch.setattr(hf, "read_weights", lambda folder: pytest.fail("weights were read"))
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, "architectures": ["FalconForCausalLM"]}))
    with pytest.raises(BadInput, match="FalconForCausalLM is not supported"):
        from_hf(tmp_path)


def test_the_words_of_a_model_are_copied_with_its_end_tokens(tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir(), out.mkdir()
    (source / "tokenizer_config.json").write_text("{}")
    (source / "generation_config.json").write_text(json.dumps({"eos_token_id": 4, "top_k": 7}))
    copy_words(source, out)
    assert (out / "generation_config.json").read_bytes() == (source / "generation_config.json").read_bytes()
    (source / "config.json").write_text(json.dumps({"eos_token_id": [4, 8]}))  # which a native folder has none of
    copy_words(source, out)
    assert json.loads((out / "generation_config.json").read_text()) == {"eos_token_id": [4, 8], "top_k": 7}
    assert (out / "tokenizer_config.json").is_file() and not (out / "config.json").exists() and end_ids(out) == {4, 8}
