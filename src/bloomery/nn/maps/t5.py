"""T5 and its later versions: an encoder and a decoder that attends to it, positions by distance; Raffel et al. 2020, arXiv 1910.10683."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.nn.config import Config
from bloomery.nn.mapping import Tensors, expect, linear

ARCHITECTURE, MODEL_TYPE, PREFIX = "T5ForConditionalGeneration", "t5", ""
BUFFERS = (".layer.1.EncDecAttention.relative_attention_bias.weight",)  # which old files hold, and nothing reads
TIED = {f"{name}.weight": "embed.weight" for name in ("lm_head", "encoder.embed_tokens", "decoder.embed_tokens")}
NAMES = {"relu": "relu", "gelu_tanh": "gelu_new", "silu": "silu"}  # of `dense_act_fn`, which says it again, and is obeyed
ACTIVATIONS = {"relu": ("relu", False), "gated-gelu": ("gelu_tanh", True), "gated-silu": ("silu", True)}


def read(config: Mapping[str, Any]) -> Config:
    kind, heads, layers = config.get("feed_forward_proj", "relu"), config.get("num_heads", 8), config["num_layers"]
    if kind not in ACTIVATIONS:
        raise BadInput(f"feed_forward_proj {kind!r} is not supported, only {' or '.join(ACTIVATIONS)}; choose another model")
    activation, gated = ACTIVATIONS[kind]
    expect(config, dense_act_fn=(NAMES[activation],), is_gated_act=(gated,))
    tied = config.get("tie_word_embeddings", True) is not False
    return Config(
        vocab=config["vocab_size"], width=config["d_model"], layers=config.get("num_decoder_layers") or layers, heads=heads, kv_heads=heads,
        ffn=config["d_ff"], context=config.get("n_positions", 512), head_width=config.get("d_kv", 64), architecture=MODEL_TYPE,
        norm_eps=config.get("layer_norm_epsilon", 1e-6), positions="relative", query_scalar=1.0, gated=gated, activation=activation,
        tied=tied, head_divisor=config["d_model"] ** 0.5 if config.get("scale_decoder_outputs", tied) else 1.0, encoder_layers=layers,
        relative_buckets=config.get("relative_attention_num_buckets", 32),
        relative_distance=config.get("relative_attention_max_distance", 128),
    )  # fmt: skip


def write(cfg: Config) -> dict[str, Any]:
    kind = next(name for name, told in ACTIVATIONS.items() if told == (cfg.activation, cfg.gated))
    return {
        "vocab_size": cfg.vocab, "d_model": cfg.width, "num_layers": cfg.encoder_layers, "num_decoder_layers": cfg.layers,
        "num_heads": cfg.heads, "d_ff": cfg.ffn, "d_kv": cfg.head_width, "n_positions": cfg.context, "feed_forward_proj": kind,
        "layer_norm_epsilon": cfg.norm_eps, "relative_attention_num_buckets": cfg.relative_buckets, "is_encoder_decoder": True,
        "relative_attention_max_distance": cfg.relative_distance, "tie_word_embeddings": cfg.tied,
        "scale_decoder_outputs": cfg.head_divisor != 1.0,
    }  # fmt: skip


def tensors(cfg: Config) -> dict[str, Tensors]:
    table = {"embed.weight": Tensors(("shared.weight",))}
    for part, layers in (("encoder", cfg.encoder_layers), ("decoder", cfg.layers)):
        own = "encoder." if part == "encoder" else ""
        table |= linear(f"{own}relative.table", (f"{part}.block.0.layer.0.SelfAttention.relative_attention_bias",))
        for i in range(layers):
            table |= block(cfg, f"{own}blocks.{i}", f"{part}.block.{i}.layer", part == "decoder")
        table |= linear(f"{own}norm", (f"{part}.final_layer_norm",))
    return table if cfg.tied else {**table, "head.weight": Tensors(("lm_head.weight",))}


def block(cfg: Config, ours: str, theirs: str, crossing: bool) -> dict[str, Tensors]:
    """One layer of the encoder or the decoder."""
    q, k, last = cfg.query_width, cfg.key_width, 2 if crossing else 1
    qkv, mlp = tuple(f"{theirs}.0.SelfAttention.{x}" for x in ("q", "k", "v")), f"{theirs}.{last}.DenseReluDense"
    table = linear(f"{ours}.mixer_norm", (f"{theirs}.0.layer_norm",)) | linear(f"{ours}.mixer.qkv", qkv, (q, k, k))
    table |= linear(f"{ours}.mixer.out", (f"{theirs}.0.SelfAttention.o",))
    if crossing:
        cross = f"{theirs}.1.EncDecAttention"
        table |= linear(f"{ours}.cross_norm", (f"{theirs}.1.layer_norm",)) | linear(f"{ours}.cross.q", (f"{cross}.q",))
        table |= linear(f"{ours}.cross.kv", (f"{cross}.k", f"{cross}.v"), (k, k)) | linear(f"{ours}.cross.out", (f"{cross}.o",))
    table |= linear(f"{ours}.mlp_norm", (f"{theirs}.{last}.layer_norm",))
    if cfg.gated:
        table |= linear(f"{ours}.mlp.gate_up", (f"{mlp}.wi_0", f"{mlp}.wi_1"), (cfg.ffn, cfg.ffn))
    else:
        table |= linear(f"{ours}.mlp.up", (f"{mlp}.wi",))
    return table | linear(f"{ours}.mlp.down", (f"{mlp}.wo",))
