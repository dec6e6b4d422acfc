"""What a file of nn/maps holds, and what those of the Llama kind share. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bloomery.core.errors import BadInput
from bloomery.nn.config import Config


@dataclass(frozen=True)
class Tensors:
    """The tensors of another tool's file that one native tensor holds, one under the other."""

    names: tuple[str, ...]
    rows: tuple[int, ...] = ()  # rows of the native tensor that belong to each; empty: one tensor, all rows
    transposed: bool = False  # stored there as (in, out)


class Architecture(Protocol):
    """A file of nn/maps: how one architecture is written in a Hugging Face folder. `Config.architecture` is its MODEL_TYPE."""

    ARCHITECTURE: str  # entry of "architectures" in config.json
    MODEL_TYPE: str
    PREFIX: str  # of all tensors but the head; files of the bare decoder lack it
    BUFFERS: tuple[str, ...]  # endings of stored tensors that are no weights

    def read(self, config: Mapping[str, Any]) -> Config:
        """The shape that a config.json describes, with the defaults that transformers has for what it leaves out.

        BadInput for what we would compute differently; KeyError, TypeError or ValueError where it describes no model.
        """

    def write(self, cfg: Config) -> dict[str, Any]:
        """The entries of config.json that decide what is computed; `read` of them is `cfg`, or the architecture cannot say it."""

    def tensors(self, cfg: Config) -> dict[str, Tensors]:
        """Native name -> tensors, in the order of the forward pass."""


def sayable(cfg: Config) -> None:
    """BadInput for what no other tool's format has a word for."""
    if not cfg.causal:
        raise BadInput("this model attends in both directions, which formats of other tools cannot say; train one with `causal: true`")
    if cfg.modules:
        names = ", ".join(name for one in cfg.modules for name in one)
        raise BadInput(f"the model has modules of its own ({names}); `nn.modules.exported` makes a plain model of it where that can be")


def expect(config: Mapping[str, Any], **allowed: tuple[Any, ...]) -> None:
    """BadInput where an entry says what we would compute differently; the first allowed value is also what a missing entry means."""
    for name, values in allowed.items():
        given = config.get(name, values[0])
        if given not in values:
            raise BadInput(f"{name} {given!r} is not supported, only {' or '.join(repr(v) for v in values)}; choose another model")


def rope_base(config: Mapping[str, Any]) -> float:
    """The base of rotary positions as every version of transformers writes it; BadInput for scaled or partial rotation."""
    rope = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    kinds = {"rope_type": rope.get("rope_type", rope.get("type", "default"))}
    expect(kinds, rope_type=("default",))
    for name, value in rope.items():
        if isinstance(value, dict):
            raise BadInput(f"rope_parameters of its own for {name} is not supported, only one for all layers; choose another model")
    for place in (rope, config):
        expect(place, partial_rotary_factor=(1.0, None))
    return float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0)


def whole_attention(config: Mapping[str, Any]) -> None:
    """BadInput where some layer sees a window of the text only, as Qwen's configurations say it."""
    layers, first = config["num_hidden_layers"], config.get("max_window_layers", 28)
    windowed = config.get("use_sliding_window", False) and config.get("sliding_window", 4096) is not None
    kinds = config.get("layer_types") or ["sliding_attention" if windowed and i >= first else "full_attention" for i in range(layers)]
    odd = sorted({kind for kind in kinds if kind != "full_attention"})
    if odd:
        stated = f"use_sliding_window {config.get('use_sliding_window', False)!r}, sliding_window {config.get('sliding_window', 4096)!r}"
        raise BadInput(f"{odd[0]} in {sum(k in odd for k in kinds)} layers ({stated}) is not supported; choose another model")


def read_rotary(config: Mapping[str, Any], context: int, kv_heads: int | None, **own: Any) -> Config:
    """The entries that Llama, Qwen2 and Qwen3 have in common; `context` and `kv_heads` are what a missing entry means, `own` the rest."""
    expect(config, hidden_act=("silu",))
    heads = config["num_attention_heads"]
    return Config(
        vocab=config["vocab_size"], width=config["hidden_size"], layers=config["num_hidden_layers"], heads=heads,
        kv_heads=config.get("num_key_value_heads", kv_heads) or heads, ffn=config["intermediate_size"],
        context=config.get("max_position_embeddings", context), rope_base=rope_base(config),
        norm_eps=config.get("rms_norm_eps", 1e-6), tied=bool(config.get("tie_word_embeddings", False)), **own,
    )  # fmt: skip


def write_rotary(cfg: Config, **own: Any) -> dict[str, Any]:
    """The way back; `own` are the entries that one architecture has for itself."""
    rope = {"rope_type": "default", "rope_theta": cfg.rope_base}
    return {
        "vocab_size": cfg.vocab, "hidden_size": cfg.width, "num_hidden_layers": cfg.layers, "num_attention_heads": cfg.heads,
        "num_key_value_heads": cfg.kv_heads, "intermediate_size": cfg.ffn, "hidden_act": "silu",
        "max_position_embeddings": cfg.context, "rms_norm_eps": cfg.norm_eps, "rope_theta": cfg.rope_base, "rope_parameters": rope,
        "tie_word_embeddings": cfg.tied, **own,
    }  # fmt: skip


def rotary_tensors(cfg: Config) -> dict[str, Tensors]:
    """The names that Llama, Qwen2 and Qwen3 have in common; biases and QK norms where the model has them."""
    rows = (cfg.query_width, cfg.key_width, cfg.key_width)
    table = {"embed.weight": Tensors(("model.embed_tokens.weight",))}
    for i in range(cfg.layers):
        ours, theirs = f"blocks.{i}", f"model.layers.{i}"
        qkv = tuple(f"{theirs}.self_attn.{x}_proj" for x in "qkv")
        pair = (f"{theirs}.mlp.gate_proj", f"{theirs}.mlp.up_proj")
        table[f"{ours}.mixer_norm.weight"] = Tensors((f"{theirs}.input_layernorm.weight",))
        table |= _linear(f"{ours}.mixer.qkv", qkv, rows, cfg.qkv_bias)
        for x in "qk" if cfg.qk_norm else "":
            table[f"{ours}.mixer.{x}_norm.weight"] = Tensors((f"{theirs}.self_attn.{x}_norm.weight",))
        table |= _linear(f"{ours}.mixer.out", (f"{theirs}.self_attn.o_proj",), (), cfg.out_bias)
        table[f"{ours}.mlp_norm.weight"] = Tensors((f"{theirs}.post_attention_layernorm.weight",))
        table |= _linear(f"{ours}.mlp.gate_up", pair, (cfg.ffn, cfg.ffn), cfg.mlp_bias)
        table |= _linear(f"{ours}.mlp.down", (f"{theirs}.mlp.down_proj",), (), cfg.mlp_bias)
    table["norm.weight"] = Tensors(("model.norm.weight",))
    return table if cfg.tied else {**table, "head.weight": Tensors(("lm_head.weight",))}


def _linear(ours: str, theirs: tuple[str, ...], rows: tuple[int, ...], bias: bool) -> dict[str, Tensors]:
    kinds = ("weight", "bias") if bias else ("weight",)
    return {f"{ours}.{kind}": Tensors(tuple(f"{name}.{kind}" for name in theirs), rows) for kind in kinds}
