from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bloomery.core.errors import BadInput
from bloomery.nn import peft as ours
from bloomery.nn.hf import from_hf
from bloomery.nn.lora import LoraLinear
from bloomery.nn.saving import assemble

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore")
TOKENS = torch.randint(0, 61, (2, 24), generator=torch.Generator().manual_seed(0))


def small(kind: str, tied: bool = False):
    """A small transformers model with random weights, large enough that every part matters to the logits."""
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        GPTNeoXConfig,
        GPTNeoXForCausalLM,
        LlamaConfig,
        LlamaForCausalLM,
        Phi3Config,
        Phi3ForCausalLM,
        Qwen3Config,
        Qwen3ForCausalLM,
    )

    torch.manual_seed(0)
    shape = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    shape |= {"intermediate_size": 40, "max_position_embeddings": 32, "tie_word_embeddings": tied, "initializer_range": 0.1}
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(**shape)).eval()
    if kind == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**shape, head_dim=16)).eval()
    if kind == "phi3":
        return Phi3ForCausalLM(Phi3Config(**shape, pad_token_id=None)).eval()
    if kind == "gpt_neox":
        del shape["num_key_value_heads"]
        return GPTNeoXForCausalLM(GPTNeoXConfig(**shape)).eval()
    size = {"vocab_size": 61, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32, "initializer_range": 0.1}
    size |= dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), 0.0)
    return GPT2LMHeadModel(GPT2Config(**size, tie_word_embeddings=True)).eval()


def theirs(folder: Path, kind: str, tied: bool = False, change: float = 0.1, **config):
    """A PEFT model whose adapter is random, saved with its base; returns it."""
    from peft import LoraConfig, get_peft_model

    base = small(kind, tied)
    base.save_pretrained(folder / "base")
    base.name_or_path = str(folder / "base")
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **config)).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(change * torch.randn_like(p))
    model.save_pretrained(folder / "adapter")
    return model


def base_net(folder: Path):
    cfg, state = from_hf(folder / "base")
    return assemble(cfg, state, torch.float32, folder)


def logits(net) -> torch.Tensor:
    with torch.inference_mode():
        return net.logits(net(TOKENS)) if hasattr(net, "blocks") else net(TOKENS).logits


def far(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


CASES = [
    ("llama", {"target_modules": ["q_proj", "v_proj"], "r": 4, "lora_alpha": 8}),
    ("llama", {"target_modules": "all-linear", "r": 3, "use_rslora": True}),
    ("llama", {"target_modules": r".*\.1\.(self_attn\.k|mlp\.(up|down))_proj", "r": 5}),
    ("llama", {"target_modules": ["gate_proj", "o_proj"], "layers_to_transform": [1], "r": 2}),
    ("llama", {"target_modules": ["k_proj", "down_proj"], "layers_to_transform": 0, "layers_pattern": "layers"}),
    ("llama", {"target_modules": ["q_proj", "up_proj"], "exclude_modules": ["model.layers.0.mlp.up_proj"]}),
    ("llama", {"target_modules": ["k_proj", "o_proj"], "exclude_modules": r".*0\.self_attn\.o_proj", "init_lora_weights": "gaussian"}),
    ("llama", {"target_modules": ["model.layers.0.self_attn.v_proj", "down_proj"], "rank_pattern": {"v_proj": 7}, "lora_alpha": 5}),
    ("qwen3", {"target_modules": ["q_proj", "k_proj", "gate_proj", "down_proj"], "rank_pattern": {"layers.1.mlp.gate_proj": 2},
               "alpha_pattern": {"k_proj": 3, r".*\.0\.self_attn\.q_proj": 11}, "r": 6}),
    ("phi3", {"target_modules": ["qkv_proj", "gate_up_proj"], "r": 4}),
    ("phi3", {"target_modules": "all-linear", "r": 3}),
    ("gpt_neox", {"target_modules": ["query_key_value"], "r": 4}),
    ("gpt_neox", {"target_modules": ["query_key_value", "dense", "dense_4h_to_h"], "r": 3, "use_rslora": True}),
    ("gpt2", {"target_modules": ["c_attn"], "r": 4, "fan_in_fan_out": True}),
    ("gpt2", {"target_modules": ["c_attn", "c_proj", "c_fc"], "r": 4, "rank_pattern": {"attn.c_proj": 2}, "fan_in_fan_out": True}),
    ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "norm"]}),
    ("qwen3", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "q_norm"]}),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(CASES)))
def test_what_peft_saves_computes_the_same_here_and_what_is_written_here_the_same_there(tmp_path, case):
    from peft import PeftModel

    kind, config = CASES[case]
    model = theirs(tmp_path, kind, **config)
    net = base_net(tmp_path)
    before, wanted = logits(net), logits(model)
    names = ours.apply(net, tmp_path / "adapter")
    assert far(logits(net), wanted) < 1e-5 and far(before, wanted) > 1e-2
    assert names and all(any(p.requires_grad for p in net.get_submodule(name).parameters()) for name in names)

    (tmp_path / "again").mkdir()
    ours.save(net, tmp_path / "again", str(tmp_path / "base"))
    stored, again = (load_file(tmp_path / name / ours.WEIGHTS) for name in ("adapter", "again"))
    assert stored.keys() == again.keys() and all(torch.equal(t, stored[name]) for name, t in again.items())
    back = base_net(tmp_path)
    assert ours.apply(back, tmp_path / "again") == names and torch.equal(logits(back), logits(net))
    loaded = PeftModel.from_pretrained(small(kind), tmp_path / "again").eval()
    assert far(logits(loaded), wanted) < 1e-5
    assert sum(p.numel() for name, p in loaded.named_parameters() if "lora_" in name) == sum(
        t.numel() for name, t in again.items() if "lora_" in name
    )


def test_a_tied_head_goes_with_its_embedding_or_is_refused(tmp_path):
    from peft import PeftModel

    model = theirs(tmp_path / "both", "llama", True, target_modules=["q_proj"], modules_to_save=["embed_tokens"], ensure_weight_tying=True)
    net = base_net(tmp_path / "both")
    assert ours.apply(net, tmp_path / "both" / "adapter") == ["embed", "blocks.0.mixer.qkv", "blocks.1.mixer.qkv"]
    assert net.head.weight is net.embed.weight and far(logits(net), logits(model)) < 1e-5
    (tmp_path / "again").mkdir()
    ours.save(net, tmp_path / "again", str(tmp_path / "both" / "base"))
    loaded = PeftModel.from_pretrained(small("llama", True), tmp_path / "again").eval()
    assert far(logits(loaded), logits(model)) < 1e-5
    back = base_net(tmp_path / "both")
    ours.apply(back, tmp_path / "again")
    assert torch.equal(logits(back), logits(net))

    for which, word in (
        (["embed_tokens"], "embedding alone"),
        (["lm_head"], "head alone"),
        (["embed_tokens", "lm_head"], "head of its own"),
    ):
        folder = tmp_path / "_".join(which)
        theirs(folder, "llama", True, target_modules=["q_proj"], modules_to_save=which)
        with pytest.raises(BadInput, match=word):
            ours.apply(base_net(folder), folder / "adapter")


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    theirs(folder, "llama", target_modules=["q_proj", "v_proj"], r=4)
    return folder


def copied(saved: Path, to: Path, **changes) -> Path:
    to.mkdir()
    config = json.loads((saved / "adapter" / ours.CONFIG).read_text())
    (to / ours.CONFIG).write_text(json.dumps({**config, **changes}))
    (to / ours.WEIGHTS).write_bytes((saved / "adapter" / ours.WEIGHTS).read_bytes())
    return to


BAD = [
    ({"peft_type": "IA3"}, "IA3"), ({"use_dora": True}, "use_dora"), ({"bias": "lora_only"}, "bias 'lora_only'"),
    ({"lora_bias": True}, "lora_bias"), ({"target_parameters": ["x.weight"]}, "target_parameters"),
    ({"init_lora_weights": "pissa"}, "pissa"),
    ({"trainable_token_indices": [3]}, "trainable_token_indices"), ({"layer_replication": [[0, 1]]}, "layer_replication"),
    ({"task_type": "SEQ_CLS"}, "SEQ_CLS"), ({"target_modules": None}, "no target_modules"), ({"something_new": 7}, "something_new"),
    ({"target_modules": ["q_proj", "v_proj", "query_key_value"]}, "'query_key_value' cannot be adapted"),
    ({"target_modules": ["q_proj", "v_proj", "lm_head"]}, "'lm_head' cannot be adapted"), ({"target_modules": "(q"}, "regular expression"),
    ({"target_modules": "nothing"}, "names no linear"), ({"modules_to_save": ["score"]}, "'score' is not supported"),
    ({"modules_to_save": ["down_proj"]}, "'down_proj' is not supported"), ({"target_modules": ["q_proj"]}, "does not explain"),
    ({"target_modules": ["q_proj", "v_proj", "k_proj"]}, r"no tensor base_model.*k_proj\.lora_A"), ({"r": 5}, r"should be \(5, 32\)"),
    ({"r": 0}, "above 0"), ({"rank_pattern": {"q_proj": "x"}}, "above 0"),
    ({"modules_to_save": ["embed_tokens"]}, "no tensor .*embed_tokens"),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(BAD)))
def test_what_would_be_computed_differently_is_refused_by_name(tmp_path, saved, case):
    changes, word = BAD[case]
    with pytest.raises(BadInput, match=word):
        ours.apply(base_net(saved), copied(saved, tmp_path / "a", **changes))


def test_damaged_and_pickled_files_are_refused(tmp_path, saved):
    folder = copied(saved, tmp_path / "a")
    weights = load_file(folder / ours.WEIGHTS)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
    for odd, word in ((weights[name][:-1], "should be"), (weights[name].long(), "int64"), (weights[name].t(), "should be")):
        save_file({**weights, name: odd.contiguous()}, folder / ours.WEIGHTS)
        with pytest.raises(BadInput, match=word):
            ours.apply(base_net(saved), folder)
    (folder / ours.WEIGHTS).write_bytes(b"no")
    with pytest.raises(BadInput, match="cannot be read"):
        ours.apply(base_net(saved), folder)
    (folder / ours.WEIGHTS).unlink()
    with pytest.raises(BadInput, match="holds none"):
        ours.apply(base_net(saved), folder)
    (folder / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(BadInput, match="unpickled"):
        ours.apply(base_net(saved), folder)
    for text in ("{", "[]"):
        (folder / ours.CONFIG).write_text(text)
        with pytest.raises(BadInput, match=ours.CONFIG):
            ours.read(folder)
    (folder / ours.CONFIG).unlink()
    assert not ours.is_adapter(folder) and ours.is_adapter(saved / "adapter")
    with pytest.raises(BadInput, match=ours.CONFIG):
        ours.read(folder)


def test_an_adapter_goes_on_once_and_nothing_is_written_without_one(tmp_path, saved):
    net = base_net(saved)
    with pytest.raises(BadInput, match="no adapter"):
        ours.save(net, tmp_path, "x")
    ours.apply(net, saved / "adapter")
    with pytest.raises(BadInput, match="already"):
        ours.apply(net, saved / "adapter")
    net.blocks[0].mixer.out.weight.requires_grad_(True)
    with pytest.raises(BadInput, match=r"blocks\.0\.mixer\.out\.weight is trained"):
        ours.save(net, tmp_path, "x")
    assert isinstance(net.blocks[0].mixer.qkv, LoraLinear) and net.blocks[0].mixer.qkv.ranks == [4, 4]


def test_the_base_is_found_beside_the_adapter(tmp_path, saved):
    assert ours.base_of(saved / "adapter") == str(saved / "base")
    folder = copied(saved, tmp_path / "a", base_model_name_or_path="../base")
    assert ours.base_of(folder) == str(tmp_path / "base")
    (tmp_path / "a" / "owner" / "name").mkdir(parents=True)
    assert ours.base_of(copied(saved, tmp_path / "b", base_model_name_or_path="owner/name")) == "owner/name"
    assert ours.base_of(copied(saved, tmp_path / "c", base_model_name_or_path="../a/owner/name")) == str(tmp_path / "a/owner/name")
    for changes, word in (({"base_model_name_or_path": None}, "missing"), ({"base_model_name_or_path": "o/n", "revision": "v2"}, "v2")):
        with pytest.raises(BadInput, match=word):
            ours.base_of(copied(saved, tmp_path / word, **changes))


def test_the_written_configuration_is_short_where_endings_say_enough(tmp_path, saved):
    net = base_net(saved)
    ours.apply(net, saved / "adapter")
    ours.save(net, tmp_path, "owner/name")
    config = json.loads((tmp_path / ours.CONFIG).read_text())
    assert config["target_modules"] == ["q_proj", "v_proj"] and config["base_model_name_or_path"] == "owner/name"
    assert (config["r"], config["lora_alpha"], config["inference_mode"], config["rank_pattern"]) == (4, 8, True, {})
