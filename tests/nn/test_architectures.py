"""Every supported architecture against transformers: a new one is a file in nn/maps, its name in hf.MAPS and a line in MODELS."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from paged import in_portions
from safetensors.torch import load_file

from bloomery.core.errors import BadInput
from bloomery.infer.cache import Reading, Step
from bloomery.infer.decoder import Decoder
from bloomery.infer.score import log_probabilities
from bloomery.infer.slots import Slots
from bloomery.nn import maps
from bloomery.nn.config import Config
from bloomery.nn.hf import MAPS, from_hf, tensors, to_hf
from bloomery.nn.lora import parts
from bloomery.nn.mapping import ENCODERS
from bloomery.nn.mixture import Mixture
from bloomery.nn.model import Transformer
from bloomery.nn.saving import assemble, load, plain, save
from bloomery.nn.sites import sites
from bloomery.num.cross_entropy import head_cross_entropy
from bloomery.seams import Rng

torch.set_num_threads(1)

SIZES = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}
ROTARY = {**SIZES, "num_key_value_heads": 2, "intermediate_size": 48, "rope_parameters": {"rope_type": "default", "rope_theta": 5e3}}
NARROW = {**SIZES, "hidden_size": 30, "num_attention_heads": 6, "n_inner": 44}
BIASES = {
    "attention_bias": True, "mlp_bias": True, "norm_bias": True, "classifier_bias": True, "decoder_bias": False, "local_attention": 200,
    "layer_types": ["sliding_attention", "full_attention"], "tie_word_embeddings": False,
}  # fmt: skip
MOE = {"num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 24}
WINDOWS = {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1}
YARN = {"rope_type": "yarn", "original_max_position_embeddings": 16, "beta_slow": 1.0, "beta_fast": 8.0}
GRANITE = {"embedding_multiplier": 12.0, "residual_multiplier": 0.22, "attention_multiplier": 0.015625, "logits_scaling": 1.6}
GRANITE["tie_word_embeddings"] = True
CAPS = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 1.5}
NEOX = {"intermediate_size": 48, "use_parallel_residual": False, "tie_word_embeddings": True, "attention_bias": False, "rotary_pct": 1.0}


def scaled(**rope: Any) -> dict:
    """Rotary positions that reach further than those a model was trained with."""
    return {**ROTARY, "rope_parameters": {"rope_type": "llama3", "rope_theta": 5e3, **rope}}


MODELS = {
    "llama": ("llama", {**ROTARY, "tie_word_embeddings": True}),
    "llama, untied, one key head": ("llama", {**ROTARY, "num_key_value_heads": 1, "tie_word_embeddings": False}),
    "llama, biases, wide heads": ("llama", {**ROTARY, "attention_bias": True, "mlp_bias": True, "head_dim": 12}),
    "qwen2": ("qwen2", {**ROTARY, "rms_norm_eps": 2e-5, "tie_word_embeddings": True}),
    "qwen2, untied, all heads": ("qwen2", {**ROTARY, "num_key_value_heads": 4, "tie_word_embeddings": False}),
    "qwen3, wide heads": ("qwen3", {**ROTARY, "head_dim": 16, "tie_word_embeddings": True}),
    "qwen3, untied, biases": ("qwen3", {**ROTARY, "head_dim": 8, "attention_bias": True, "tie_word_embeddings": False}),
    "llama, linear rotation": ("llama", scaled(rope_type="linear", factor=3.0)),
    "llama 3.1": ("llama", scaled(factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)),
    "qwen2, yarn, windows": ("qwen2", {**scaled(factor=4.0, **YARN), **WINDOWS}),
    "qwen3, yarn, given size": ("qwen3", {**scaled(factor=4.0, **YARN, attention_factor=1.2, truncate=False)}),
    "mistral": ("mistral", {**ROTARY, "sliding_window": 9}),
    "mistral, no window, wide heads": ("mistral", {**ROTARY, "sliding_window": None, "head_dim": 12}),
    "phi3": ("phi3", ROTARY),
    "phi3, part of a head, window": ("phi3", {**scaled(rope_type="default", partial_rotary_factor=0.5), "sliding_window": 17}),
    "olmo2": ("olmo2", ROTARY),
    "olmo2, tied, biases": ("olmo2", {**ROTARY, "attention_bias": True, "tie_word_embeddings": True}),
    "gemma2": ("gemma2", {**ROTARY, "head_dim": 8, "query_pre_attn_scalar": 10, "sliding_window": 9, **CAPS}),
    "gemma2, no caps": ("gemma2", {**ROTARY, "head_dim": 6, "attn_logit_softcapping": None, "final_logit_softcapping": None}),
    "gpt_neox": ("gpt_neox", {**SIZES, "intermediate_size": 48}),
    "gpt_neox, in turn, all of a head": ("gpt_neox", {**SIZES, **NEOX}),
    "mixtral": ("mixtral", {**ROTARY, "num_local_experts": 5, "sliding_window": 9}),
    "qwen3_moe": ("qwen3_moe", {**ROTARY, **MOE, "mlp_only_layers": [0], "norm_topk_prob": True}),
    "qwen3_moe, all layers": ("qwen3_moe", {**ROTARY, **MOE, "tie_word_embeddings": True, "attention_bias": True}),
    "granite": ("granite", {**ROTARY, **GRANITE}),
    "granite, untied, biases": ("granite", {**ROTARY, "attention_bias": True, "mlp_bias": True, "attention_multiplier": 0.2}),
    "starcoder2": ("starcoder2", {**ROTARY, "sliding_window": 9}),
    "starcoder2, untied, no biases": ("starcoder2", {**ROTARY, "use_bias": False, "tie_word_embeddings": False}),
    "bert": ("bert", {**SIZES, "intermediate_size": 48}),
    "modernbert": ("modernbert", {**SIZES, "num_hidden_layers": 3, "intermediate_size": 48, "local_attention": 16}),
    "modernbert, biases": ("modernbert", {**SIZES, "intermediate_size": 48, **BIASES}),
    "gpt2": ("gpt2", SIZES),
    "gpt2, untied, odd heads": ("gpt2", {**NARROW, "tie_word_embeddings": False}),
}  # fmt: skip
IDS = torch.randint(0, 97, (3, 64), generator=torch.Generator().manual_seed(0))


def auto(kind: str) -> Any:
    import transformers

    return transformers.AutoModelForMaskedLM if kind in ENCODERS else transformers.AutoModelForCausalLM


def make(kind: str, entries: dict, dtype: torch.dtype = torch.float32):
    """A model of transformers in which every parameter matters: gains, biases and matrices are far from where they begin."""
    from transformers import AutoConfig

    torch.manual_seed(3)
    config = AutoConfig.for_model(kind, bos_token_id=None, eos_token_id=None, pad_token_id=None, **deepcopy(entries))
    net = auto(kind).from_config(config, attn_implementation="eager" if kind == "gemma2" else "sdpa").eval()
    with torch.no_grad():
        for p in net.parameters():
            p.normal_(0.0, 0.1).add_(0.0 if p.dim() > 1 else 0.5)
    return net.to(dtype)


@pytest.fixture(scope="module", params=MODELS.values(), ids=MODELS)
def pair(request, tmp_path_factory):
    """Folder, the model of transformers that was saved there, and ours read from it."""
    folder, theirs = tmp_path_factory.mktemp("hf"), make(*request.param)
    theirs.save_pretrained(folder)
    cfg, state = from_hf(folder)
    assert cfg.architecture == request.param[0]
    return folder, theirs, assemble(cfg, state, torch.float32, folder)


@pytest.fixture
def decoder(pair):
    """Those that generate; the others say that they do not."""
    if not pair[2].cfg.causal:
        with pytest.raises(BadInput, match="both directions and cannot generate"):
            pair[2](IDS, cache=object())
        pytest.skip("an encoder")
    return pair


def test_every_map_is_looked_up_and_tested():
    files = {path.stem for path in Path(maps.__path__[0]).glob("*.py")} - {"__init__"}
    assert files == {one.MODEL_TYPE for one in MAPS} == {kind for kind, _ in MODELS.values()} | {"t5"}  # whose tests are in test_t5.py


def test_the_logits_are_those_of_transformers(pair, request):
    """With `-s` it prints the largest difference, the table of docs/models.md."""
    _, theirs, net = pair
    with torch.no_grad():
        want = theirs(IDS).logits
        found = {"whole rows": net(IDS), "documents": net(IDS, documents_BT=torch.zeros_like(IDS))}
    found["gradients"] = net(IDS).detach()
    assert want.std() > 0.2
    apart = {path: float((net.logits(hidden).detach() - want).abs().max()) for path, hidden in found.items()}
    print(f"\n| {request.node.callspec.id} | {apart['whole rows']:.1e} | {max(apart.values()):.1e} | {want.std():.2f} |")
    assert max(apart.values()) < 1e-5, apart


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("kind", "entries"), MODELS.values(), ids=MODELS)
def test_there_and_back_is_bitwise(tmp_path, kind, entries, dtype):
    from transformers import AutoConfig

    theirs, first, second = make(kind, entries, dtype), tmp_path / "first", tmp_path / "second"
    theirs.save_pretrained(first)
    cfg, state = from_hf(first)
    second.mkdir()
    to_hf(assemble(cfg, state, dtype, first), None, second, dtype)
    one, other = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    assert one.keys() == other.keys()
    for name, t in one.items():
        assert other[name].dtype == t.dtype == dtype and other[name].shape == t.shape and other[name].equal(t), name
    again, info = auto(kind).from_pretrained(second, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(again) is type(theirs) and again.dtype == dtype
    with torch.inference_mode():
        assert again(IDS).logits.equal(auto(kind).from_pretrained(first).eval()(IDS).logits)
    told = [AutoConfig.from_pretrained(folder).to_dict() for folder in (first, second)]
    differ = {name for name in told[0].keys() | told[1].keys() if told[0].get(name) != told[1].get(name)}
    assert differ <= {
        "_name_or_path",
        "n_ctx",
        "partial_rotary_factor",
    }  # told twice, for old versions, {name: [one.get(name) for one in told] for name in differ}
    assert from_hf(second)[0] == cfg


@torch.inference_mode()
def test_greedy_text_is_that_of_transformers(decoder):
    _, theirs, net = decoder

    class Silent:
        def decode(self, ids, skip_special_tokens=True):
            return ""

    prompts = [IDS[0, :40].tolist(), IDS[1, :5].tolist(), IDS[2, :1].tolist()]
    found = Decoder(net, Silent()).generate(prompts, 34)
    assert [one.dropped for one in found] == [8, 0, 0]  # the first ends at the end of the context while the others go on
    for prompt, completion in zip(prompts, found, strict=True):
        given = torch.tensor([prompt[-32:]])
        want = theirs.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=len(completion.ids), do_sample=False)
        assert list(completion.ids) == want[0, given.shape[1] :].tolist()
        assert len(completion.ids) == (32 if completion.dropped else 34)


@pytest.mark.parametrize("cuts", [[64], [1] * 64, [30, 34], [25, 1, 1, 20, 17]])
@torch.inference_mode()
def test_a_cache_gives_the_hidden_states_of_one_pass(decoder, cuts):
    net = decoder[2]
    for begins in ([0, 0, 0], [0, 9, 24]):
        if cuts[0] > max(begins):
            found = in_portions(net, IDS, cuts, begins)
            for row, begin in enumerate(begins):
                torch.testing.assert_close(found[row], net(IDS[row : row + 1, begin:])[0], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_packed_documents_give_the_logits_of_each_alone(pair):
    net, at = pair[2], 0
    documents = torch.tensor([[0] * 7 + [1] + [2] * 30 + [3] * 21 + [-1] * 5])
    packed = net.logits(net(IDS[:1], documents_BT=documents))
    for length in (7, 1, 30, 21):
        torch.testing.assert_close(packed[:, at : at + length], net.logits(net(IDS[:1, at : at + length])), rtol=1e-5, atol=1e-5)
        at += length
    assert not packed.isnan().any()


def test_packed_documents_give_the_gradients_of_each_alone(pair):
    net, lengths = pair[2].requires_grad_(True), (7, 1, 30, 21)
    documents = torch.tensor([[0] * 7 + [1] + [2] * 30 + [3] * 21 + [-1] * 5])
    hidden = net(IDS[:1], documents_BT=documents)[0, :59]
    head_cross_entropy(net, hidden, IDS[0, 1:60], torch.ones(59)).backward()
    found = {name: p.grad for name, p in net.named_parameters()}
    whole = torch.stack([grad.norm() for grad in found.values()]).norm()  # keys' biases change next to nothing
    net.zero_grad()
    for start, length in zip((0, 7, 8, 38), lengths, strict=True):
        part = slice(start, start + length)
        logits = net.logits(net(IDS[:1, part]))[0]
        torch.nn.functional.cross_entropy(logits, IDS[0, start + 1 : start + length + 1], reduction="sum").backward()
    for name, p in net.named_parameters():
        assert p.grad.norm() > 0 or "experts" in name, name  # an expert may have no token
        assert (found[name] - p.grad).norm() <= 2e-6 * max(p.grad.norm(), 0.02 * whole), name
    net.zero_grad()


@torch.inference_mode()
def test_rows_that_come_and_go_give_the_hidden_states_of_one_pass(decoder):
    net, slots, starts = decoder[2], Slots(decoder[2].cfg, 3, 64, torch.float32), (20, 3, 33)
    for row, start in enumerate(starts):
        lease = slots.open([], 64)
        net(IDS[row : row + 1, :start], cache=Reading(slots, [(lease, 0, start)]))
        slots.join(lease, start)
    for step in range(30):
        tokens = torch.zeros(slots.stepping, 1, dtype=torch.int64)
        tokens[:3, 0] = torch.stack([IDS[row, start + step] for row, start in enumerate(starts)])
        found = net(tokens, cache=Step(slots, slots.memory, slots.begin(1)))
        slots.end(1)
        if step % 7 == 0:
            for row, start in enumerate(starts):
                want = net(IDS[row : row + 1, : start + step + 1])[0, -1]
                torch.testing.assert_close(found[row, 0], want, rtol=1e-5, atol=1e-5)


def test_a_text_longer_than_the_context_is_scored_in_pieces(decoder):
    net, ids = decoder[2], IDS.flatten()[:150]
    found = log_probabilities(net, [ids.numpy(), ids[:20].numpy()])
    with torch.no_grad():
        want = net.logits(net(ids[None, 64:128]))[0].log_softmax(-1).gather(-1, ids[65:129, None])[:, 0]
    torch.testing.assert_close(torch.from_numpy(found[0][64:128]), want, rtol=1e-5, atol=2e-5)


def test_parameters_are_counted_as_the_configuration_says(pair):
    _, theirs, net = pair
    assert net.cfg.parameters() == sum(p.numel() for p in net.parameters()) == sum(p.numel() for p in theirs.parameters())
    linears = sum(module.weight.numel() for site, module in sites(net) if site.kind in ("linear", "head"))
    for mixture in (block.mlp for block in net.blocks if isinstance(block.mlp, Mixture)):
        idle = len(mixture.experts) - mixture.top
        linears += mixture.router.weight.numel() - idle * sum(p.numel() for p in mixture.experts[0].parameters())
    assert net.cfg.matmul_parameters() == linears
    whole = 6 * linears + 60 * net.cfg.layers * net.cfg.heads * net.cfg.head_width
    assert net.cfg.flops_per_token(10) == whole if not net.cfg.windows else 6 * linears < net.cfg.flops_per_token(10) <= whole


def test_every_parameter_has_one_site_and_one_place_in_the_table(pair):
    net = pair[2]
    owned = [p for site, module in sites(net) if site.kind in ("linear", "norm", "embed", "head") for p in module.parameters()]
    owned += [p for name, p in net.named_parameters() if name.endswith("router.weight")]
    assert {id(p) for p in owned} == {id(p) for p in net.parameters()}
    assert all(net.get_submodule(site.name) is module for site, module in sites(net))
    assert tensors(net.cfg).keys() == plain(net).keys()
    shapes = {name: net.get_parameter(name).shape[0] for name in tensors(net.cfg)}
    assert all(not held.rows or sum(held.rows) == shapes[name] for name, held in tensors(net.cfg).items())


def test_every_linear_of_the_blocks_takes_an_adapter(pair):
    net = pair[2]
    linears = {site.name: module.out_features for site, module in sites(net) if site.kind == "linear" and site.name.startswith("blocks.")}
    found = {name: sum(rows for _, rows, _ in held) for name, held in parts(net).items()}
    assert found == linears


def test_the_native_folder_gives_the_model_back(pair, tmp_path):
    net = pair[2]
    save(net, tmp_path)
    back = load(tmp_path)
    assert back.cfg == net.cfg and all(t.equal(plain(back)[name]) for name, t in plain(net).items())


def test_new_weights_have_gains_of_one_and_biases_of_zero(pair):
    net = Transformer(pair[2].cfg, Rng((1,)))
    for name, p in net.named_parameters():
        if p.dim() > 1:
            assert p.std() > 0, name
        else:
            assert p.eq(0.0 if name.endswith(".bias") or (net.cfg.norm_offset and "q_norm" not in name) else 1.0).all(), name


def test_all_layers_share_one_compiled_graph(pair):
    from torch._dynamo.testing import CompileCounter

    net, counter = pair[2], CompileCounter()

    def kind(layer: int) -> tuple:
        return net.cfg.window(layer), net.cfg.mixed(layer), layer > 0 or net.cfg.first_norm

    want = net(IDS)
    net.requires_grad_(True)
    torch._dynamo.reset()
    for block in net.blocks:
        block.compile(backend=counter, dynamic=False, fullgraph=True)
    try:
        torch.testing.assert_close(net(IDS), want, rtol=1e-5, atol=1e-5)
        assert counter.frame_count == len(set(map(kind, range(net.cfg.layers))))  # one for each kind of layer
    finally:
        for block in net.blocks:
            block._compiled_call_impl = None


def test_learned_positions_end_with_the_table(pair):
    net = pair[2]
    if net.cfg.positions == "rotary":
        assert net(torch.cat((IDS, IDS), 1)).shape[1] == 128
        return
    with pytest.raises(ValueError, match="position 127 is past the 64 positions"):
        net(torch.cat((IDS, IDS), 1))
    halves = torch.tensor([[0] * 64 + [1] * 64] * 3)
    assert net(torch.cat((IDS, IDS), 1), documents_BT=halves).shape[1] == 128


def test_what_an_architecture_cannot_say_is_not_written(tmp_path):
    shape = {"vocab": 31, "width": 16, "layers": 1, "heads": 2, "kv_heads": 1, "ffn": 24, "context": 32}
    for changes, word in [
        ({"qk_norm": True}, "LlamaForCausalLM cannot say qk_norm True"), ({"architecture": "qwen2"}, "cannot say qkv_bias False"),
        ({"architecture": "gpt2"}, "GPT2LMHeadModel cannot say"), ({"architecture": "qwen4"}, "qwen4 is not supported; did you mean"),
        ({"qkv_bias": True}, "cannot say out_bias False"),
    ]:  # fmt: skip
        with pytest.raises(BadInput, match=word):
            to_hf(Transformer(Config(**shape, **changes)), None, tmp_path)
        assert not list(tmp_path.iterdir())


def test_the_kinds_of_tokens_are_those_of_transformers(tmp_path):
    theirs, types = make("bert", MODELS["bert"][1]), (IDS > 50).long()
    theirs.save_pretrained(tmp_path)
    net = assemble(*from_hf(tmp_path), torch.float32, tmp_path)
    with torch.no_grad():
        want, found = theirs(IDS, token_type_ids=types).logits, net.logits(net(IDS, types_BT=types))
        assert (found - want).abs().max() < 1e-5
        assert not torch.allclose(found, net.logits(net(IDS)), atol=1e-2)


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "gemma2", "gpt_neox", "modernbert"])
def test_entries_beside_the_usual_ones_mean_what_they_mean_to_transformers_or_are_refused(tmp_path, kind):
    """Each entry is put into a config.json that transformers then obeys: either our logits are its logits, or it is refused by name."""
    make(kind, next(entries for one, entries in MODELS.values() if one == kind)).save_pretrained(tmp_path)
    usual, yarn = json.loads((tmp_path / "config.json").read_text()), {"factor": 4.0, "original_max_position_embeddings": 16}
    refused = compared = 0
    for entries in (
        {"is_causal": False}, {"rope_scaling": {"type": "yarn", **yarn}}, {"sliding_window": 5}, {"use_bidirectional_attention": True},
        {"layer_types": ["full_attention", "sliding_attention", "full_attention"][: usual["num_hidden_layers"]]},
        {"rope_scaling": {"type": "linear", "factor": 3.0}, "rope_theta": 500.0, "rope_parameters": None},
        {"hidden_act": "relu", "hidden_activation": "relu"}, {"attention_multiplier": 0.3},
    ):  # fmt: skip
        (tmp_path / "config.json").write_text(json.dumps({**usual, **entries}))
        try:
            cfg, state = from_hf(tmp_path)
        except BadInput:
            refused += 1
            continue
        try:
            theirs = auto(kind).from_pretrained(tmp_path, attn_implementation="eager" if kind == "gemma2" else "sdpa").eval()
            with torch.no_grad():
                want = theirs(IDS).logits
        except (AttributeError, RuntimeError, ValueError, TypeError):  # nothing that transformers takes, or of other shapes
            continue
        net = assemble(cfg, state, torch.float32, tmp_path)
        compared += 1
        with torch.no_grad():
            assert (want - net.logits(net(IDS))).abs().max() < 1e-5, entries
    assert refused >= 1 and compared >= 3
