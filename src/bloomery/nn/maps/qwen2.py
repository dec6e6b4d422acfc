"""Qwen2 and Qwen2.5: Llama with biases on queries, keys and values; Yang et al. 2024, arXiv 2407.10671."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bloomery.nn.config import Config
from bloomery.nn.mapping import HEAD, Tensors, qwen_windows, read_rotary, rotary_tensors, write_rotary, write_windows

ARCHITECTURE, MODEL_TYPE, PREFIX = "Qwen2ForCausalLM", "qwen2", "model."
BUFFERS, TIED = ("rotary_emb.inv_freq",), HEAD


def read(config: Mapping[str, Any]) -> Config:
    own = {"qkv_bias": True, "windows": qwen_windows(config), "head_width": config.get("head_dim") or 0}
    return read_rotary(config, context=32768, kv_heads=32, architecture=MODEL_TYPE, **own)


def write(cfg: Config) -> dict[str, Any]:
    own = write_windows(cfg)
    if cfg.query_width != cfg.width:  # an entry that Qwen2 does not have by itself, and obeys
        own["head_dim"] = cfg.head_width
    return write_rotary(cfg, **own)


def tensors(cfg: Config) -> dict[str, Tensors]:
    return rotary_tensors(cfg)
