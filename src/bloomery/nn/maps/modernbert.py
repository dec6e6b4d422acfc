"""ModernBERT with its head for hidden words: rotary positions, windows in most layers; Warner et al. 2024, arXiv 2412.13663."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bloomery.nn.config import Config
from bloomery.nn.mapping import Tensors, expect, layer_types, linear, read_windows

ARCHITECTURE, MODEL_TYPE, PREFIX = "ModernBertForMaskedLM", "modernbert", "model."
BUFFERS, TIED = ("rotary_emb.inv_freq",), {"decoder.weight": "embed.weight"}


def read(config: Mapping[str, Any]) -> Config:
    expect(config, hidden_activation=("gelu",), classifier_activation=("gelu",), decoder_bias=(True, False))
    heads, layers, bias = config["num_attention_heads"], config["num_hidden_layers"], bool(config.get("attention_bias", False))
    every, half = config.get("global_attn_every_n_layers", 3), config.get("local_attention", 128) // 2
    kinds = ["sliding_attention" if i % every else "full_attention" for i in range(layers)]
    expect(config, sliding_window=(half,))  # another name of the half, which transformers obeys
    windows = read_windows({**config, "sliding_window": half + 1}, None, kinds)
    return Config(
        vocab=config["vocab_size"], width=config["hidden_size"], layers=layers, heads=heads, kv_heads=heads, windows=windows,
        ffn=config["intermediate_size"], context=config.get("max_position_embeddings", 8192), architecture=MODEL_TYPE, norm="layer",
        norm_eps=config.get("norm_eps", 1e-5), norm_bias=bool(config.get("norm_bias", False)), activation="gelu", qkv_bias=bias,
        out_bias=bias, mlp_bias=bool(config.get("mlp_bias", False)), causal=False, embed_norm=True, first_norm=False, head_transform=True,
        head_transform_bias=bool(config.get("classifier_bias", False)), head_bias=bool(config.get("decoder_bias", True)),
        tied=bool(config.get("tie_word_embeddings", True)), rope_base=base(config, "full_attention", "global_rope_theta", 160000.0),
        local_rope_base=base(config, "sliding_attention", "local_rope_theta", 10000.0),
    )  # fmt: skip


def base(config: Mapping[str, Any], kind: str, old: str, usual: float) -> float:
    """The base of rotary positions in one kind of layer."""
    rope = (config.get("rope_parameters") or {}).get(kind) or {}
    for one in (rope, scaling := config.get("rope_scaling") or {}):
        expect({"rope_type": one.get("rope_type", one.get("type", "default"))}, rope_type=("default",))
    expect(scaling, rope_theta=(None,))
    return float(rope.get("rope_theta") or config.get(old, usual))


def write(cfg: Config) -> dict[str, Any]:
    bases = {"full_attention": cfg.rope_base, "sliding_attention": cfg.local_rope_base}
    kinds, windows = layer_types(cfg), [cfg.window(i) for i in range(cfg.layers) if cfg.window(i)]
    return {
        "vocab_size": cfg.vocab, "hidden_size": cfg.width, "num_hidden_layers": cfg.layers, "num_attention_heads": cfg.heads,
        "intermediate_size": cfg.ffn, "hidden_activation": "gelu", "max_position_embeddings": cfg.context, "norm_eps": cfg.norm_eps,
        "norm_bias": cfg.norm_bias, "attention_bias": cfg.qkv_bias, "mlp_bias": cfg.mlp_bias, "classifier_bias": cfg.head_transform_bias,
        "decoder_bias": cfg.head_bias, "local_attention": 2 * (windows[0] - 1) if windows else 128, "layer_types": kinds,
        "global_rope_theta": cfg.rope_base, "local_rope_theta": cfg.local_rope_base, "tie_word_embeddings": cfg.tied,
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": value} for kind, value in bases.items()},
    }  # fmt: skip


def tensors(cfg: Config) -> dict[str, Tensors]:
    table = {"embed.weight": Tensors(("model.embeddings.tok_embeddings.weight",))}
    table |= linear("embed_norm", ("model.embeddings.norm",), bias=cfg.norm_bias)
    for i in range(cfg.layers):
        ours, theirs = f"blocks.{i}", f"model.layers.{i}"
        if i:
            table |= linear(f"{ours}.mixer_norm", (f"{theirs}.attn_norm",), bias=cfg.norm_bias)
        table |= linear(f"{ours}.mixer.qkv", (f"{theirs}.attn.Wqkv",), bias=cfg.qkv_bias)
        table |= linear(f"{ours}.mixer.out", (f"{theirs}.attn.Wo",), bias=cfg.out_bias)
        table |= linear(f"{ours}.mlp_norm", (f"{theirs}.mlp_norm",), bias=cfg.norm_bias)
        table |= linear(f"{ours}.mlp.gate_up", (f"{theirs}.mlp.Wi",), bias=cfg.mlp_bias)
        table |= linear(f"{ours}.mlp.down", (f"{theirs}.mlp.Wo",), bias=cfg.mlp_bias)
    table |= linear("norm", ("model.final_norm",), bias=cfg.norm_bias)
    table |= linear("transform.dense", ("head.dense",), bias=cfg.head_transform_bias)
    table |= linear("transform.norm", ("head.norm",), bias=cfg.norm_bias)
    table |= {"head.bias": Tensors(("decoder.bias",))} if cfg.head_bias else {}
    return table if cfg.tied else {**table, "head.weight": Tensors(("decoder.weight",))}
