"""Plans from names and shapes against sharding written by hand, and against every other way to cut a block."""

from __future__ import annotations

import re
from itertools import product

import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.planner.redco import Redco

# Megatron-LM's layout (Shoeybi et al. 2019), in torch's shapes: a linear's weight is (outputs, inputs), a Conv1D's (inputs, outputs).
EVERYWHERE = {"wte|shared|embed_tokens|lm_head": 0}
BY_HAND = {
    "gpt2": {r"attn\.c_attn": 1, r"attn\.c_proj": 0, r"mlp\.c_fc": 1, r"mlp\.c_proj": 0},
    "llama": {r"[qkv]_proj": 0, "o_proj": 1, "gate_proj|up_proj": 0, "down_proj": 1},
    "t5": {r"Attention\.[qkv]": 0, r"Attention\.o": 1, r"DenseReluDense\.wi(_\d)?": 0, r"DenseReluDense\.wo": 1},
    "opt": {r"[qkv]_proj": 0, "out_proj": 1, "fc1": 0, "fc2": 1},
}
REDUCES = {
    "gpt2": {"transformer.wte": 1, "transformer.h.0": 2, "transformer.h.1": 2},
    "llama": {"model.embed_tokens": 1, "model.layers.0": 2, "model.layers.1": 2},
    "t5": {"shared": 1, "encoder.block.0": 2, "encoder.block.1": 2, "decoder.block.0": 3, "decoder.block.1": 3},
    "opt": {"model.decoder.embed_tokens": 1, "model.decoder.layers.0": 2, "model.decoder.layers.1": 2},
}


def parameters(family: str, **changes) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    """Names and shapes of a transformers model, and its Conv1D weights; nothing is drawn."""
    import torch
    import transformers
    from transformers.pytorch_utils import Conv1D

    shape = {
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "bos_token_id": 1, "eos_token_id": 1},
        "llama": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
        "t5": {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4},
        "opt": {"hidden_size": 32, "ffn_dim": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "word_embed_proj_dim": 32},
    }[family]
    config, net = {
        "gpt2": (transformers.GPT2Config, transformers.GPT2LMHeadModel),
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "t5": (transformers.T5Config, transformers.T5ForConditionalGeneration),
        "opt": (transformers.OPTConfig, transformers.OPTForCausalLM),
    }[family]
    with torch.device("meta"):
        made = net(config(**{"vocab_size": 128, **shape, **changes}))
    turned = [f"{name}.weight" for name, unit in made.named_modules() if isinstance(unit, Conv1D)]
    return {name: tuple(p.shape) for name, p in made.named_parameters()}, turned


CASES = [(name, {}) for name in BY_HAND] + [
    ("llama", {"intermediate_size": 32, "num_key_value_heads": 4}),
    ("t5", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    ("t5", {"feed_forward_proj": "gated-gelu", "d_ff": 32}),
    ("opt", {"ffn_dim": 32}),
]


@pytest.mark.parametrize(("family", "changes"), CASES, ids=lambda one: one if isinstance(one, str) else "-".join(map(str, one.values())))
def test_exact_the_plan_is_megatrons_whatever_the_widths(family, changes):
    """Square feed-forward matrices, whose shapes tell nothing, among them."""
    shapes, turned = parameters(family, **changes)
    plan = Redco().plan({"parameters": shapes, "transposed": turned}, {"tensor": 2}, None)
    for name, shape in shapes.items():
        module = name.removesuffix(".weight")
        found = [dim for pattern, dim in {**EVERYWHERE, **BY_HAND[family]}.items() if re.search(f"(^|\\.)\\w*?({pattern})$", module)]
        assert plan["shard"][name] == (found[0] if found and len(shape) == 2 else None), name
    assert plan["all_reduces"] == REDUCES[family]


def test_exact_our_own_model_and_what_one_process_holds():
    from bloomery.lab.sharded import job_of, model

    net = model()
    job = job_of(net)
    plan = Redco().plan(job, {"tensor": 2}, None)
    cut = {name: dim for name, dim in plan["shard"].items() if dim is not None}
    block = {"mixer.qkv": 0, "mixer.out": 1, "mlp.gate_up": 0, "mlp.down": 1}
    by_hand = {f"blocks.{i}.{name}.weight": dim for i in range(2) for name, dim in block.items()}
    assert cut == {**by_hand, "embed.weight": 0, "head.weight": 0} and plan["gathers"] == ["head.weight"]
    assert plan["numbers"] == sum(p.numel() // (2 if name in cut else 1) for name, p in net.named_parameters())
    alone = Redco().plan(job, {"tensor": 1}, None)
    assert not any(dim is not None for dim in alone["shard"].values()) and alone["all_reduces"] == {}
    without = Redco(vocabulary=False).plan(job, {"tensor": 2}, None)
    assert {name for name, dim in without["shard"].items() if dim is not None} == set(by_hand) and without["gathers"] == []


def test_property_no_way_to_cut_every_matrix_of_a_block_needs_fewer_collectives():
    """Outputs that are cut must be gathered where the next step takes them whole; inputs that are cut leave sums to be added up."""

    def needed(plan: dict[str, int]) -> int:
        count = 0
        for firsts, last in ((("q", "k", "v"), "o"), (("gate", "up"), "down")):
            apart = [plan[name] == 0 for name in firsts]
            count += sum(not one for one in apart)  # cut inputs: partial sums
            joined = all(apart)
            count += sum(apart) if not joined else 0  # heads and products mix the firsts: all are cut alike, or all are whole
            if plan[last] == 1:
                count += 1  # it takes cut inputs, which cost nothing to cut from whole ones
            else:
                count += sum(apart) if joined else 0
                count += 1  # its outputs are gathered for the residual stream
        return count

    names = ("q", "k", "v", "o", "gate", "up", "down")
    every = {cuts: needed(dict(zip(names, cuts, strict=True))) for cuts in product((0, 1), repeat=7)}
    shapes, _ = parameters("llama")
    plan = Redco().plan({"parameters": shapes}, {"tensor": 2}, None)
    ours = tuple(
        plan["shard"][f"model.layers.0.{where}_proj.weight"]
        for where in (*(f"self_attn.{n}" for n in "qkvo"), "mlp.gate", "mlp.up", "mlp.down")
    )
    assert every[ours] == min(every.values()) == 2 == plan["all_reduces"]["model.layers.0"]
    assert [cuts for cuts, count in every.items() if count == 2] == [ours]


def test_what_does_not_divide_is_replicated_with_its_partners():
    shapes, _ = parameters("llama", intermediate_size=66)
    plan = Redco().plan({"parameters": shapes, "heads": (4, 2)}, {"tensor": 4}, None)["shard"]
    assert all(plan[f"model.layers.1.{one}_proj.weight"] is None for one in ("self_attn.q", "self_attn.o", "mlp.gate", "mlp.down"))
    assert plan["lm_head.weight"] == 0
    assert Redco().plan({"parameters": shapes}, {"tensor": 4}, None)["shard"]["model.layers.0.self_attn.k_proj.weight"] == 0
    with pytest.raises(BadInput, match="tensor is the number of processes"):
        Redco().plan({"parameters": shapes}, {"tensor": 0}, None)


def test_names_that_are_spread_over_modules():
    """BERT calls its matrices query, key, value, output.dense, intermediate.dense, output.dense."""
    of = {"attention.self.query": 0, "attention.self.key": 0, "attention.self.value": 0, "attention.output.dense": 1}
    of |= {"intermediate.dense": 0, "output.dense": 1}
    shapes = {f"encoder.layer.0.{name}.weight": (32, 32) for name in of}
    shapes |= {
        "encoder.layer.0.intermediate.dense.weight": (128, 32),
        "encoder.layer.0.output.dense.weight": (32, 128),
        "pooler.weight": (33, 32),
    }
    plan = Redco().plan({"parameters": shapes}, {"tensor": 2}, None)
    assert plan["shard"] == {**{f"encoder.layer.0.{name}.weight": dim for name, dim in of.items()}, "pooler.weight": None}
    assert plan["all_reduces"] == {"encoder.layer.0": 2}


def test_experts_share_one_all_reduce_and_routers_stay_whole():
    """Even where the router's shape would make it a partner: as many experts as the width, or twice as many."""
    for experts, names in (
        (8, ("mlp.router", "mlp.experts.{}.")),
        (32, ("mlp.gate", "mlp.experts.{}.")),
        (64, ("moe.router", "moe.expert_{}.")),
    ):
        router, expert = names
        shapes = {f"blocks.0.{router}.weight": (experts, 32)}
        for e in range(4):
            inside = "blocks.0." + expert.format(e)
            shapes |= {f"{inside}gate.weight": (48, 32), f"{inside}up.weight": (48, 32), f"{inside}down.weight": (32, 48)}
        plan = Redco().plan({"parameters": shapes}, {"tensor": 2}, None)
        assert plan["all_reduces"] == {"blocks.0": 1} and plan["gathers"] == [] and plan["shard"][f"blocks.0.{router}.weight"] is None
        for name, dim in plan["shard"].items():
            assert name.endswith(f"{router}.weight") or dim == int(name.endswith("down.weight")), name
