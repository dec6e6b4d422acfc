"""Mixtral: Mistral with a mixture of experts in every layer; Jiang et al. 2024, arXiv 2401.04088."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bloomery.nn.config import Config
from bloomery.nn.mapping import HEAD, Tensors, expect, read_rotary, read_windows, rotary_tensors, write_rotary

ARCHITECTURE, MODEL_TYPE, PREFIX = "MixtralForCausalLM", "mixtral", "model."
BUFFERS, TIED = ("rotary_emb.inv_freq",), HEAD
EXPERTS = ("block_sparse_moe", "w1", "w3", "w2")


def read(config: Mapping[str, Any]) -> Config:
    expect(config, router_jitter_noise=(0.0,))
    own = {"windows": read_windows({**config, "layer_types": None}, None), "head_width": config.get("head_dim") or 0}
    own |= {"experts": config.get("num_local_experts", 8), "top": config.get("num_experts_per_tok", 2)}
    own["norm_eps"] = config.get("rms_norm_eps", 1e-5)
    return read_rotary(config, context=131072, kv_heads=8, base=1e6, architecture=MODEL_TYPE, **own)


def write(cfg: Config) -> dict[str, Any]:
    own = {"num_local_experts": cfg.experts, "num_experts_per_tok": cfg.top, "sliding_window": cfg.window(0) or None}
    return write_rotary(cfg, **own, head_dim=None if cfg.query_width == cfg.width else cfg.head_width)


def tensors(cfg: Config) -> dict[str, Tensors]:
    return rotary_tensors(cfg, experts=EXPERTS)
