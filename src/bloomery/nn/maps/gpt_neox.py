"""GPT-NeoX and Pythia: attention and feed-forward side by side, a part of each head rotated; Black et al. 2022, arXiv 2204.06745."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bloomery.nn.config import Config
from bloomery.nn.mapping import Tensors, expect, linear, read_rope, write_rope

ARCHITECTURE, MODEL_TYPE, PREFIX = "GPTNeoXForCausalLM", "gpt_neox", "gpt_neox."
BUFFERS = ("rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias")  # the causal mask, which old files hold
TIED = {"embed_out.weight": "embed.weight"}


def read(config: Mapping[str, Any]) -> Config:
    expect(config, hidden_act=("gelu",))
    heads, bias = config["num_attention_heads"], bool(config.get("attention_bias", True))
    rope = {**config, "partial_rotary_factor": None}  # beside rotary_pct transformers does not read it
    return Config(
        vocab=config["vocab_size"], width=config["hidden_size"], layers=config["num_hidden_layers"], heads=heads, kv_heads=heads,
        ffn=config["intermediate_size"], context=config.get("max_position_embeddings", 2048), architecture=MODEL_TYPE, norm="layer",
        norm_eps=config.get("layer_norm_eps", 1e-5), tied=bool(config.get("tie_word_embeddings", False)), gated=False, activation="gelu",
        qkv_bias=bias, out_bias=bias, mlp_bias=True, parallel=bool(config.get("use_parallel_residual", True)),
        **read_rope(rope, config.get("rotary_emb_base", 10000.0), config.get("rotary_pct", 0.25)),
    )  # fmt: skip


def write(cfg: Config) -> dict[str, Any]:
    return {
        "vocab_size": cfg.vocab, "hidden_size": cfg.width, "num_hidden_layers": cfg.layers, "num_attention_heads": cfg.heads,
        "intermediate_size": cfg.ffn, "hidden_act": "gelu", "max_position_embeddings": cfg.context, "layer_norm_eps": cfg.norm_eps,
        "use_parallel_residual": cfg.parallel, "attention_bias": cfg.qkv_bias, "tie_word_embeddings": cfg.tied,
        **write_rope(cfg, "rotary_emb_base", "rotary_pct"),
    }  # fmt: skip


def tensors(cfg: Config) -> dict[str, Tensors]:
    table = {"embed.weight": Tensors(("gpt_neox.embed_in.weight",))}
    for i in range(cfg.layers):
        ours, theirs = f"blocks.{i}", f"gpt_neox.layers.{i}"
        table |= linear(f"{ours}.mixer_norm", (f"{theirs}.input_layernorm",), bias=True)
        fused = linear(f"{ours}.mixer.qkv", (f"{theirs}.attention.query_key_value",), bias=cfg.qkv_bias)
        table |= {name: replace(held, heads=cfg.heads) for name, held in fused.items()}
        table |= linear(f"{ours}.mixer.out", (f"{theirs}.attention.dense",), bias=cfg.out_bias)
        table |= linear(f"{ours}.mlp_norm", (f"{theirs}.post_attention_layernorm",), bias=True)
        table |= linear(f"{ours}.mlp.up", (f"{theirs}.mlp.dense_h_to_4h",), bias=True)
        table |= linear(f"{ours}.mlp.down", (f"{theirs}.mlp.dense_4h_to_h",), bias=True)
    table |= linear("norm", ("gpt_neox.final_layer_norm",), bias=True)
    return table if cfg.tied else {**table, "head.weight": Tensors(("embed_out.weight",))}
