"""BERT with its head for hidden words: every token sees the whole text, norms after the sums; Devlin et al. 2018, arXiv 1810.04805."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bloomery.nn.config import Config
from bloomery.nn.mapping import Tensors, expect, linear

ARCHITECTURE, MODEL_TYPE, PREFIX = "BertForMaskedLM", "bert", "bert."
POOLER = (".pooler.dense.weight", ".pooler.dense.bias", "cls.seq_relationship.weight", "cls.seq_relationship.bias")
BUFFERS = (".position_ids", *POOLER)  # the parts for other tasks, which files of the pretraining hold
TIED = {"cls.predictions.decoder.weight": "embed.weight", "cls.predictions.decoder.bias": "head.bias"}
PARTS = {
    "mixer.out": "attention.output.dense", "mixer_norm": "attention.output.LayerNorm", "mlp.up": "intermediate.dense",
    "mlp.down": "output.dense", "mlp_norm": "output.LayerNorm",
}  # fmt: skip


def read(config: Mapping[str, Any]) -> Config:
    expect(config, hidden_act=("gelu",), is_decoder=(False,), add_cross_attention=(False,), position_embedding_type=("absolute", None))
    expect(config, tie_word_embeddings=(True,))
    heads = config["num_attention_heads"]
    return Config(
        vocab=config["vocab_size"], width=config["hidden_size"], layers=config["num_hidden_layers"], heads=heads, kv_heads=heads,
        ffn=config["intermediate_size"], context=config.get("max_position_embeddings", 512), architecture=MODEL_TYPE, norm="layer",
        norm_eps=config.get("layer_norm_eps", 1e-12), norm_order="post", positions="learned", gated=False, activation="gelu", qkv_bias=True,
        out_bias=True, mlp_bias=True, causal=False, embed_norm=True, final_norm=False, token_types=config.get("type_vocab_size", 2),
        head_transform=True, head_transform_bias=True, head_bias=True,
    )  # fmt: skip


def write(cfg: Config) -> dict[str, Any]:
    return {
        "vocab_size": cfg.vocab, "hidden_size": cfg.width, "num_hidden_layers": cfg.layers, "num_attention_heads": cfg.heads,
        "intermediate_size": cfg.ffn, "hidden_act": "gelu", "max_position_embeddings": cfg.context, "layer_norm_eps": cfg.norm_eps,
        "type_vocab_size": cfg.token_types, "tie_word_embeddings": cfg.tied,
    }  # fmt: skip


def tensors(cfg: Config) -> dict[str, Tensors]:
    tables = {"embed": "word", "positions": "position", "types": "token_type"}
    table = {f"{ours}.weight": Tensors((f"bert.embeddings.{theirs}_embeddings.weight",)) for ours, theirs in tables.items()}
    table |= linear("embed_norm", ("bert.embeddings.LayerNorm",), bias=True)
    for i in range(cfg.layers):
        at = f"bert.encoder.layer.{i}"
        qkv = tuple(f"{at}.attention.self.{name}" for name in ("query", "key", "value"))
        table |= linear(f"blocks.{i}.mixer.qkv", qkv, (cfg.query_width, cfg.key_width, cfg.key_width), True)
        for ours, theirs in PARTS.items():
            table |= linear(f"blocks.{i}.{ours}", (f"{at}.{theirs}",), bias=True)
    table |= linear("transform.dense", ("cls.predictions.transform.dense",), bias=True)
    table |= linear("transform.norm", ("cls.predictions.transform.LayerNorm",), bias=True)
    return table | {"head.bias": Tensors(("cls.predictions.bias",))}
