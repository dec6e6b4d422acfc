"""StarCoder2: layer norms, rotary positions, plain feed-forward layers, biases everywhere; Lozhkov et al. 2024, arXiv 2402.19173."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bloomery.nn.config import Config
from bloomery.nn.mapping import HEAD, Tensors, expect, linear, read_rotary, read_windows, write_rotary

ARCHITECTURE, MODEL_TYPE, PREFIX = "Starcoder2ForCausalLM", "starcoder2", "model."
BUFFERS, TIED = ("rotary_emb.inv_freq",), HEAD
PARTS = {
    "mixer_norm": "input_layernorm", "mixer.out": "self_attn.o_proj", "mlp_norm": "post_attention_layernorm", "mlp.up": "mlp.c_fc",
    "mlp.down": "mlp.c_proj",
}  # fmt: skip


def read(config: Mapping[str, Any]) -> Config:
    expect(config, hidden_act=("gelu_pytorch_tanh",))
    bias = bool(config.get("use_bias", True))
    own = {"norm": "layer", "norm_eps": config.get("norm_epsilon", 1e-5), "gated": False, "activation": "gelu_tanh", "qkv_bias": bias}
    own |= {"windows": read_windows({**config, "layer_types": None}, None), "tied": bool(config.get("tie_word_embeddings", True))}
    own |= {"out_bias": bias, "mlp_bias": bias, "head_width": config.get("head_dim") or 0}
    return read_rotary(config, context=4096, kv_heads=2, architecture=MODEL_TYPE, **own)


def write(cfg: Config) -> dict[str, Any]:
    own = {"head_dim": cfg.head_width} if cfg.query_width != cfg.width else {}  # which StarCoder2 does not have by itself, and obeys
    config = write_rotary(cfg, norm_epsilon=cfg.norm_eps, use_bias=cfg.qkv_bias, sliding_window=cfg.window(0) or None, **own)
    del config["rms_norm_eps"]
    return config | {"hidden_act": "gelu_pytorch_tanh"}


def tensors(cfg: Config) -> dict[str, Tensors]:
    table = {"embed.weight": Tensors(("model.embed_tokens.weight",))}
    for i in range(cfg.layers):
        ours, theirs = f"blocks.{i}", f"model.layers.{i}"
        qkv = tuple(f"{theirs}.self_attn.{x}_proj" for x in ("q", "k", "v"))
        table |= linear(f"{ours}.mixer.qkv", qkv, (cfg.query_width, cfg.key_width, cfg.key_width), cfg.qkv_bias)
        for part, name in PARTS.items():
            table |= linear(f"{ours}.{part}", (f"{theirs}.{name}",), bias="norm" in part or cfg.qkv_bias)
    table |= linear("norm", ("model.norm",), bias=True)
    return table if cfg.tied else {**table, "head.weight": Tensors(("lm_head.weight",))}
