"""Gemma 2: norms before and after, soft-caps on scores and logits, windows in every other layer; Riviere et al. 2024, arXiv 2408.00118."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bloomery.nn.config import Config
from bloomery.nn.mapping import HEAD, Tensors, expect, layer_types, read_rotary, read_windows, rotary_tensors, write_rotary

ARCHITECTURE, MODEL_TYPE, PREFIX = "Gemma2ForCausalLM", "gemma2", "model."
BUFFERS, TIED = ("rotary_emb.inv_freq",), HEAD
NORMS = {
    "mixer_norm": "input_layernorm", "mixer_post_norm": "post_attention_layernorm", "mlp_norm": "pre_feedforward_layernorm",
    "mlp_post_norm": "post_feedforward_layernorm",
}  # fmt: skip


def read(config: Mapping[str, Any]) -> Config:
    expect(config, hidden_activation=("gelu_pytorch_tanh",), use_bidirectional_attention=(None, False))
    bias, layers = bool(config.get("attention_bias", False)), config["num_hidden_layers"]
    kinds = ["full_attention" if i % 2 else "sliding_attention" for i in range(layers)]
    own = {
        "qkv_bias": bias,
        "out_bias": bias,
        "windows": read_windows(config, 4096, kinds),
        "tied": config.get("tie_word_embeddings", True),
    }
    return read_rotary(
        config, context=8192, kv_heads=4, architecture=MODEL_TYPE, activation="gelu_tanh", norm_order="sandwich", norm_offset=True,
        head_width=config.get("head_dim", 256), embed_scale=config["hidden_size"] ** 0.5,
        query_scalar=float(config.get("query_pre_attn_scalar", 256)),
        score_cap=config.get("attn_logit_softcapping", 50.0) or 0.0, logit_cap=config.get("final_logit_softcapping", 30.0) or 0.0, **own,
    )  # fmt: skip


def write(cfg: Config) -> dict[str, Any]:
    scalar, sees = cfg.query_scalar, [cfg.window(layer) for layer in range(cfg.layers)]
    config = write_rotary(
        cfg, head_dim=cfg.head_width, attention_bias=cfg.qkv_bias, hidden_act="gelu_pytorch_tanh", hidden_activation="gelu_pytorch_tanh",
        query_pre_attn_scalar=int(scalar) if scalar.is_integer() else scalar, sliding_window=max(sees) or 4096,
        layer_types=layer_types(cfg), attn_logit_softcapping=cfg.score_cap or None, final_logit_softcapping=cfg.logit_cap or None,
    )  # fmt: skip
    del config["hidden_act"]  # which these models do not read
    return config


def tensors(cfg: Config) -> dict[str, Tensors]:
    return rotary_tensors(cfg, NORMS)
