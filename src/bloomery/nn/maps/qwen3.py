"""Qwen3: Llama with RMS norms over each query and key head, whose width is its own number; Yang et al. 2025, arXiv 2505.09388."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bloomery.nn.config import Config
from bloomery.nn.mapping import HEAD, Tensors, qwen_windows, read_rotary, rotary_tensors, write_rotary, write_windows

ARCHITECTURE, MODEL_TYPE, PREFIX = "Qwen3ForCausalLM", "qwen3", "model."
BUFFERS, TIED = ("rotary_emb.inv_freq",), HEAD


def read(config: Mapping[str, Any]) -> Config:
    bias = bool(config.get("attention_bias", False))
    own = {"qkv_bias": bias, "out_bias": bias, "qk_norm": True, "head_width": config.get("head_dim", 128) or 0}
    own["windows"] = qwen_windows(config)
    return read_rotary(config, context=32768, kv_heads=32, architecture=MODEL_TYPE, **own)


def write(cfg: Config) -> dict[str, Any]:
    return write_rotary(cfg, head_dim=cfg.head_width, attention_bias=cfg.qkv_bias, **write_windows(cfg))


def tensors(cfg: Config) -> dict[str, Tensors]:
    return rotary_tensors(cfg)
