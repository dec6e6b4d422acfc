"""Qwen3 with a mixture of experts in all layers or some of them; Yang et al. 2025, arXiv 2505.09388."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bloomery.nn.config import Config
from bloomery.nn.mapping import HEAD, Tensors, read_rotary, read_windows, rotary_tensors, write_rotary, write_windows

ARCHITECTURE, MODEL_TYPE, PREFIX = "Qwen3MoeForCausalLM", "qwen3_moe", "model."
BUFFERS, TIED = ("rotary_emb.inv_freq",), HEAD


def read(config: Mapping[str, Any]) -> Config:
    bias, every = bool(config.get("attention_bias", False)), config.get("decoder_sparse_step", 1)
    dense = {i for i in range(config["num_hidden_layers"]) if (i + 1) % every} | set(config.get("mlp_only_layers") or ())
    window = config.get("sliding_window", 4096) if config.get("use_sliding_window", False) else None
    own = {"qkv_bias": bias, "out_bias": bias, "qk_norm": True, "head_width": config.get("head_dim") or 0}
    own |= {"windows": read_windows({**config, "layer_types": None, "sliding_window": window}, None), "dense_layers": tuple(dense)}
    own |= {"experts": config.get("num_experts", config.get("num_local_experts", 128)), "top": config.get("num_experts_per_tok", 8)}
    own |= {"expert_ffn": config.get("moe_intermediate_size", 768), "top_normalised": bool(config.get("norm_topk_prob", False))}
    return read_rotary(config, context=32768, kv_heads=4, architecture=MODEL_TYPE, **own)


def write(cfg: Config) -> dict[str, Any]:
    own = {"num_experts": cfg.experts, "num_experts_per_tok": cfg.top, "moe_intermediate_size": cfg.expert_ffn or cfg.ffn}
    own |= {"norm_topk_prob": cfg.top_normalised, "mlp_only_layers": list(cfg.dense_layers), "decoder_sparse_step": 1}
    windows = {name: value for name, value in write_windows(cfg).items() if name in ("use_sliding_window", "sliding_window")}
    if cfg.query_width != cfg.width:  # an entry that these models do not have by themselves, and obey
        own["head_dim"] = cfg.head_width
    return write_rotary(cfg, attention_bias=cfg.qkv_bias, **windows, **own)


def tensors(cfg: Config) -> dict[str, Tensors]:
    return rotary_tensors(cfg)
