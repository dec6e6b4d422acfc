"""Granite: Llama with four multipliers, those of the maximal update parametrization; Granite team 2024, Granite 3.0 Language Models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bloomery.nn.config import Config
from bloomery.nn.mapping import HEAD, Tensors, read_rotary, rotary_tensors, write_rotary

ARCHITECTURE, MODEL_TYPE, PREFIX = "GraniteForCausalLM", "granite", "model."
BUFFERS, TIED = ("rotary_emb.inv_freq",), HEAD
DIGITS = 12  # of what stands under the root: as many as a written multiplier determines


def read(config: Mapping[str, Any]) -> Config:
    attention, scale = bool(config.get("attention_bias", False)), float(config.get("attention_multiplier", 1.0))
    scalar = float(f"{scale**-2:.{DIGITS}g}")
    own = {"qkv_bias": attention, "out_bias": attention, "mlp_bias": bool(config.get("mlp_bias", False))}
    own |= {"query_scalar": scalar if scalar**-0.5 == scale else scale**-2, "head_divisor": float(config.get("logits_scaling", 1.0))}
    own |= {"embed_scale": float(config.get("embedding_multiplier", 1.0))}
    own |= {"residual_scale": float(config.get("residual_multiplier", 1.0)), "head_width": config.get("head_dim") or 0}
    return read_rotary(config, context=2048, kv_heads=None, architecture=MODEL_TYPE, **own)


def write(cfg: Config) -> dict[str, Any]:
    own = {"head_dim": cfg.head_width} if cfg.query_width != cfg.width else {}  # which Granite does not have by itself, and obeys
    return write_rotary(
        cfg, attention_bias=cfg.qkv_bias, mlp_bias=cfg.mlp_bias, embedding_multiplier=cfg.embed_scale, logits_scaling=cfg.head_divisor,
        residual_multiplier=cfg.residual_scale, attention_multiplier=(cfg.query_scalar or cfg.head_width) ** -0.5, **own,
    )  # fmt: skip


def tensors(cfg: Config) -> dict[str, Tensors]:
    return rotary_tensors(cfg)
