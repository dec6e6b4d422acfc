"""Claims about plans made of two rules."""

FAMILIES = {  # how Megatron-LM cuts the matrices of a block, by how their names end: 0 outputs, 1 inputs, in torch's (outputs, inputs)
    "GPT-2": {"attn.c_attn": 0, "attn.c_proj": 1, "mlp.c_fc": 0, "mlp.c_proj": 1},
    "Llama": {"q_proj": 0, "k_proj": 0, "v_proj": 0, "o_proj": 1, "gate_proj": 0, "up_proj": 0, "down_proj": 1},
    "T5": {"Attention.q": 0, "Attention.k": 0, "Attention.v": 0, "Attention.o": 1, "wi": 0, "wo": 1},
    "OPT": {"q_proj": 0, "k_proj": 0, "v_proj": 0, "out_proj": 1, "fc1": 0, "fc2": 1},
}


def two_rules_give_the_sharding_written_by_hand(lab):
    """For GPT-2-, Llama-, T5- and OPT-shaped models the plan is Megatron-LM's for every matrix of every block, at the widths of the
    published models (Tan et al. 2023: GPT-J, LLaMA, T5 and OPT up to 66B without further code)."""
    found = []
    for family, (shapes, turned) in _shapes().items():
        plan, matrices, wrong = _plan(shapes, turned), 0, 0
        for name in shapes:
            wanted = [dim for end, dim in FAMILIES[family].items() if name.endswith(f"{end}.weight")]
            if wanted:
                matrices += 1
                wrong += plan["shard"][name] != (1 - wanted[0] if name in turned else wanted[0])
        found.append(lab.near(f"matrices of {family} cut otherwise, of {matrices}", wrong, 0, margin=0, unit="matrices"))
    return found


def two_processes_compute_what_one_does(lab):
    """A model cut over two processes has the loss and the gradients of the whole one, with two all-reduces for each block, one for the
    embedding, and no more (the least that cutting every matrix of a block allows; no figure)."""
    import tempfile
    from pathlib import Path

    from bloomery.lab.sharded import SHAPE, run

    with tempfile.TemporaryDirectory() as folder:
        told = run(Path(folder))
    return [
        lab.near("loss", [one["loss"] for one in told], [one["whole"] for one in told], margin=1e-5, unit="nats/token"),
        lab.near("largest relative difference of a gradient", max(one["gradient"] for one in told), 0, margin=1e-5),
        lab.near("all-reduces of a forward pass", told[0]["forward"], 2 * SHAPE["layers"] + 1, margin=0, unit="all-reduces"),
        lab.near(
            "numbers that a process holds, against the plan", told[0]["numbers"], told[0]["planned_numbers"], margin=0, unit="numbers"
        ),
    ]


def _plan(shapes, turned):
    from bloomery.methods.planner.redco import Redco

    return Redco().plan({"parameters": shapes, "transposed": turned}, {"tensor": 8}, None)


def _shapes():
    """Names and shapes at the widths of GPT-2 medium, Llama 2 7B, T5 11B and OPT 66B, two layers of each; nothing is drawn."""
    import torch
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        OPTConfig,
        OPTForCausalLM,
        T5Config,
        T5ForConditionalGeneration,
    )
    from transformers.pytorch_utils import Conv1D

    of = {
        "GPT-2": (GPT2LMHeadModel, GPT2Config(n_embd=1024, n_layer=2, n_head=16)),
        "Llama": (LlamaForCausalLM, LlamaConfig(hidden_size=4096, intermediate_size=11008, num_hidden_layers=2)),
        "T5": (T5ForConditionalGeneration, T5Config(d_model=1024, d_kv=128, d_ff=65536, num_layers=2, num_heads=128)),
        "OPT": (
            OPTForCausalLM,
            OPTConfig(hidden_size=9216, ffn_dim=36864, num_hidden_layers=2, num_attention_heads=72, word_embed_proj_dim=9216),
        ),
    }
    found = {}
    with torch.device("meta"):
        for name, (kind, config) in of.items():
            net = kind(config)
            turned = [f"{at}.weight" for at, unit in net.named_modules() if isinstance(unit, Conv1D)]
            found[name] = {at: tuple(p.shape) for at, p in net.named_parameters()}, turned
    return found
