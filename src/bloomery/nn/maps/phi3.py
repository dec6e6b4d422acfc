"""Phi-3: Llama of which a part of each head may be rotated; Abdin et al. 2024, arXiv 2404.14219."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bloomery.nn.config import Config
from bloomery.nn.mapping import HEAD, Tensors, read_rope, read_rotary, read_windows, rotary_tensors, write_rotary

ARCHITECTURE, MODEL_TYPE, PREFIX = "Phi3ForCausalLM", "phi3", "model."
BUFFERS, TIED = ("rotary_emb.inv_freq",), HEAD


def read(config: Mapping[str, Any]) -> Config:
    own = {"windows": read_windows({**config, "layer_types": None}, None), **read_rope(config, kinds=("default",))}
    own["norm_eps"] = config.get("rms_norm_eps", 1e-5)
    return read_rotary(config, context=4096, kv_heads=None, architecture=MODEL_TYPE, **own)


def write(cfg: Config) -> dict[str, Any]:
    return write_rotary(cfg, sliding_window=cfg.window(0) or None)


def tensors(cfg: Config) -> dict[str, Tensors]:
    return rotary_tensors(cfg, fused=True)
