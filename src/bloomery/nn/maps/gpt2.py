"""GPT-2: layer norms, learned positions, plain feed-forward layers, biases everywhere, and matrices stored as (in, out).

Radford et al. 2019, Language Models are Unsupervised Multitask Learners.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bloomery.nn.config import Config
from bloomery.nn.mapping import HEAD, Tensors, expect

ARCHITECTURE, MODEL_TYPE, PREFIX = "GPT2LMHeadModel", "gpt2", "transformer."
BUFFERS = (".attn.bias", ".attn.masked_bias")  # the causal mask, which old files hold
TIED = HEAD


def read(config: Mapping[str, Any]) -> Config:
    expect(config, activation_function=("gelu_new", "gelu_pytorch_tanh"), scale_attn_weights=(True,), add_cross_attention=(False,))
    expect(config, scale_attn_by_inverse_layer_idx=(False,), reorder_and_upcast_attn=(False,))
    heads, width = config["n_head"], config["n_embd"]
    return Config(
        vocab=config["vocab_size"], width=width, layers=config["n_layer"], heads=heads, kv_heads=heads,
        ffn=config.get("n_inner") or 4 * width, context=config["n_positions"], norm_eps=config.get("layer_norm_epsilon", 1e-5),
        tied=bool(config.get("tie_word_embeddings", True)), architecture=MODEL_TYPE, norm="layer", positions="learned", gated=False,
        activation="gelu_tanh", qkv_bias=True, out_bias=True, mlp_bias=True,
    )  # fmt: skip


def write(cfg: Config) -> dict[str, Any]:
    return {
        "vocab_size": cfg.vocab, "n_embd": cfg.width, "n_layer": cfg.layers, "n_head": cfg.heads, "n_positions": cfg.context,
        "n_ctx": cfg.context, "n_inner": None if cfg.ffn == 4 * cfg.width else cfg.ffn, "activation_function": "gelu_new",
        "layer_norm_epsilon": cfg.norm_eps, "tie_word_embeddings": cfg.tied,
    }  # fmt: skip


def tensors(cfg: Config) -> dict[str, Tensors]:
    table = {"embed.weight": Tensors(("transformer.wte.weight",)), "positions.weight": Tensors(("transformer.wpe.weight",))}
    parts = {
        "mixer_norm": "ln_1", "mixer.qkv": "attn.c_attn", "mixer.out": "attn.c_proj", "mlp_norm": "ln_2", "mlp.up": "mlp.c_fc",
        "mlp.down": "mlp.c_proj",
    }  # fmt: skip
    for i in range(cfg.layers):
        for ours, theirs in parts.items():
            table[f"blocks.{i}.{ours}.weight"] = Tensors((f"transformer.h.{i}.{theirs}.weight",), transposed="norm" not in ours)
            table[f"blocks.{i}.{ours}.bias"] = Tensors((f"transformer.h.{i}.{theirs}.bias",))
    table |= {f"norm.{kind}": Tensors((f"transformer.ln_f.{kind}",)) for kind in ("weight", "bias")}
    return table if cfg.tied else {**table, "head.weight": Tensors(("lm_head.weight",))}
