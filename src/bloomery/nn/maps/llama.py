"""Llama: RMS norms, rotary positions, grouped-query attention, gated feed-forward layers; Touvron et al. 2023, arXiv 2307.09288."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bloomery.nn.config import Config
from bloomery.nn.mapping import HEAD, Tensors, read_rotary, rotary_tensors, write_rotary

ARCHITECTURE, MODEL_TYPE, PREFIX = "LlamaForCausalLM", "llama", "model."
BUFFERS, TIED = ("rotary_emb.inv_freq",), HEAD


def read(config: Mapping[str, Any]) -> Config:
    attention, mlp = bool(config.get("attention_bias", False)), bool(config.get("mlp_bias", False))
    own = {"qkv_bias": attention, "out_bias": attention, "mlp_bias": mlp, "head_width": config.get("head_dim") or 0}
    return read_rotary(config, context=2048, kv_heads=None, architecture=MODEL_TYPE, **own)


def write(cfg: Config) -> dict[str, Any]:
    return write_rotary(cfg, head_dim=cfg.head_width, attention_bias=cfg.qkv_bias, mlp_bias=cfg.mlp_bias)


def tensors(cfg: Config) -> dict[str, Tensors]:
    return rotary_tensors(cfg)
