"""OLMo 2: Llama with norms after attention and feed-forward, and over all queries and all keys; OLMo team 2025, arXiv 2501.00656."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bloomery.nn.config import Config
from bloomery.nn.mapping import HEAD, Tensors, read_rotary, rotary_tensors, write_rotary

ARCHITECTURE, MODEL_TYPE, PREFIX = "Olmo2ForCausalLM", "olmo2", "model."
BUFFERS, TIED = ("rotary_emb.inv_freq",), HEAD
NORMS = {"mixer_norm": "post_attention_layernorm", "mlp_norm": "post_feedforward_layernorm"}


def read(config: Mapping[str, Any]) -> Config:
    bias = bool(config.get("attention_bias", False))
    own = {"qkv_bias": bias, "out_bias": bias, "norm_order": "reordered", "qk_norm": True, "qk_norm_whole": True}
    own["norm_eps"] = config.get("rms_norm_eps", 1e-5)
    return read_rotary(config, context=2048, kv_heads=None, architecture=MODEL_TYPE, **own)


def write(cfg: Config) -> dict[str, Any]:
    return write_rotary(cfg, attention_bias=cfg.qkv_bias)


def tensors(cfg: Config) -> dict[str, Tensors]:
    return rotary_tensors(cfg, NORMS)
