"""Shapes of published models by name, for plans of models that are not here. Numbers only, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bloomery.core.errors import BadInput, near
from bloomery.nn.config import Config

GPT: Mapping[str, Any] = {
    "norm": "layer", "positions": "learned", "gated": False, "activation": "gelu", "qkv_bias": True, "out_bias": True, "mlp_bias": True,
    "architecture": "gpt2",
}  # fmt: skip

# the numbers of their config.json, or of the paper where there is none
SHAPES: dict[str, Config] = {
    "gpt2-xl": Config(50257, 1600, 48, 25, 25, 6400, 1024, **GPT),
    "gpt3-175b": Config(50257, 12288, 96, 96, 96, 49152, 2048, **GPT),
    "llama-7b": Config(32000, 4096, 32, 32, 32, 11008, 4096, tied=False),
    "llama-13b": Config(32000, 5120, 40, 40, 40, 13824, 4096, tied=False),
    "llama-70b": Config(32000, 8192, 80, 64, 8, 28672, 4096, tied=False),
    "llama3-8b": Config(128256, 4096, 32, 32, 8, 14336, 8192, rope_base=5e5, tied=False),
    "llama3-70b": Config(128256, 8192, 80, 64, 8, 28672, 8192, rope_base=5e5, tied=False),
    "llama3-405b": Config(128256, 16384, 126, 128, 8, 53248, 8192, rope_base=5e5, tied=False),
    "mistral-7b": Config(32000, 4096, 32, 32, 8, 14336, 8192, tied=False, architecture="mistral"),
    "mixtral-8x7b": Config(32000, 4096, 32, 32, 8, 14336, 32768, rope_base=1e6, tied=False, experts=8, top=2, architecture="mixtral"),
    "qwen2.5-7b": Config(152064, 3584, 28, 28, 4, 18944, 32768, rope_base=1e6, tied=False, qkv_bias=True, architecture="qwen2"),
    "qwen2.5-72b": Config(152064, 8192, 80, 64, 8, 29568, 32768, rope_base=1e6, tied=False, qkv_bias=True, architecture="qwen2"),
}


def named(name: str) -> Config:
    """The shape of that name; BadInput with near misses."""
    if name not in SHAPES:
        raise BadInput(f"--model {name}: it is no folder and no shape that is known here; {near(name, list(SHAPES))}")
    return SHAPES[name]
