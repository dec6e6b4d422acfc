"""Mistral: Llama whose layers may see a window of the text only; Jiang et al. 2023, arXiv 2310.06825."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.nn.config import Config
from bloomery.nn.mapping import HEAD, Tensors, read_rotary, read_windows, rotary_tensors, write_rotary

ARCHITECTURE, MODEL_TYPE, PREFIX = "MistralForCausalLM", "mistral", "model."
BUFFERS, TIED = ("rotary_emb.inv_freq",), HEAD


def read(config: Mapping[str, Any]) -> Config:
    windows = read_windows({**config, "layer_types": None}, 4096)
    if read_windows(config, 4096) != windows:
        raise BadInput("layer_types that differ from layer to layer make transformers read it as a Ministral; choose another model")
    own = {"windows": windows, "head_width": config.get("head_dim") or 0}
    return read_rotary(config, context=131072, kv_heads=8, architecture=MODEL_TYPE, **own)


def write(cfg: Config) -> dict[str, Any]:
    return write_rotary(cfg, head_dim=cfg.head_width, sliding_window=cfg.window(0) or None)


def tensors(cfg: Config) -> dict[str, Tensors]:
    return rotary_tensors(cfg)
