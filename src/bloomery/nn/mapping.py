"""What a file of nn/maps holds, and what those of the Llama kind share. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bloomery.core.errors import BadInput
from bloomery.nn.config import Config, RopeScaling

KINDS = ("default", "linear", "yarn", "llama3")  # of rotary positions
ENCODERS = ("bert", "modernbert")  # whose tokens see the whole text
HEAD = {"lm_head.weight": "embed.weight"}


@dataclass(frozen=True)
class Tensors:
    """The tensors of another tool's file that one native tensor holds, one under the other."""

    names: tuple[str, ...]
    rows: tuple[int, ...] = ()  # rows of the native tensor that belong to each; empty: one tensor, all rows
    transposed: bool = False  # stored there as (in, out)
    heads: int = 0  # rows are stored head by head, its query, key and value together; here all queries come first


class Architecture(Protocol):
    """A file of nn/maps: how one architecture is written in a Hugging Face folder. `Config.architecture` is its MODEL_TYPE."""

    ARCHITECTURE: str  # entry of "architectures" in config.json
    MODEL_TYPE: str
    PREFIX: str  # of all tensors but the head; files of the bare decoder lack it
    BUFFERS: tuple[str, ...]  # endings of stored tensors that are no weights
    TIED: Mapping[str, str]  # tensors that a file may hold besides, and the native tensor that they repeat where it is tied

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
    if not cfg.causal and cfg.architecture not in ENCODERS:
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


def read_rope(config: Mapping[str, Any], base: float = 10000.0, share: float = 1.0, kinds: tuple[str, ...] = KINDS) -> dict[str, Any]:
    """The fields of rotary positions as every version of transformers writes them; `base` and `share` are what a missing entry means.

    BadInput for kinds of scaling that we do not compute, or parameters of its own for some layers.
    """
    rope = one_rope(config)
    kind = rope.get("rope_type", "default")
    expect({"rope_type": kind}, rope_type=kinds)
    for name, value in rope.items():
        if isinstance(value, dict):
            raise BadInput(f"rope_parameters of its own for {name} is not supported, only one for all layers; choose another model")
    part = rope.get("partial_rotary_factor") or config.get("partial_rotary_factor") or share
    found = {"rope_base": float(rope.get("rope_theta") or config.get("rope_theta") or base), "rotary_share": float(part)}
    if kind == "default":
        return found
    original = config.get("original_max_position_embeddings") or rope.get("original_max_position_embeddings")
    own = {"original": original or config["max_position_embeddings"]} if kind != "linear" else {}
    if kind == "llama3":
        own |= {"low": float(rope["low_freq_factor"]), "high": float(rope["high_freq_factor"])}
    if kind == "yarn":
        expect(rope, mscale=(None,), mscale_all_dim=(None,))
        own |= {"low": float(rope.get("beta_slow") or 1), "high": float(rope.get("beta_fast") or 32)}
        own |= {"attention": rope.get("attention_factor"), "truncate": bool(rope.get("truncate", True))}
    return found | {"rope_scaling": RopeScaling(kind, float(rope["factor"]), **own)}


def one_rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of `rope_scaling`, which old versions write, or of `rope_parameters`; BadInput where both are there and differ:
    transformers obeys the older one."""
    told = [{**config[name]} for name in ("rope_scaling", "rope_parameters") if config.get(name)]
    for one in told:
        kind = one.pop("type", "default")
        one.setdefault("rope_type", kind)
    if len(told) == 2 and told[0] != {name: value for name, value in told[1].items() if name in told[0] or name != "rope_theta"}:
        raise BadInput("rope_scaling and rope_parameters say different things; keep the one that is meant")
    return told[-1] if told else {}


def write_rope(cfg: Config, base: str = "rope_theta", share: str = "partial_rotary_factor") -> dict[str, Any]:
    """The way back, for old versions of transformers and new ones; `base` and `share` are the names that old ones know."""
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": cfg.rope_base}
    found: dict[str, Any] = {base: cfg.rope_base}
    if cfg.rotary_share != 1.0 or share != "partial_rotary_factor":
        rope["partial_rotary_factor"] = found[share] = cfg.rotary_share
    if (scaling := cfg.rope_scaling) is not None:
        rope |= {"rope_type": scaling.kind, "factor": scaling.factor}
        if scaling.kind != "linear":
            rope["original_max_position_embeddings"] = scaling.original
        if scaling.kind == "llama3":
            rope |= {"low_freq_factor": scaling.low, "high_freq_factor": scaling.high}
        if scaling.kind == "yarn":
            rope |= {"beta_slow": scaling.low, "beta_fast": scaling.high}
            rope |= {"attention_factor": scaling.attention} if scaling.attention is not None else {}
            rope |= {"truncate": False} if not scaling.truncate else {}
        found["rope_scaling"] = {name: value for name, value in rope.items() if name != "rope_theta"}
    return {**found, "rope_parameters": rope}


def read_windows(config: Mapping[str, Any], usual: int | None, kinds: Sequence[str] | None = None) -> tuple[int, ...]:
    """How far each layer sees; `usual` is what a missing `sliding_window` means, `kinds` what a missing `layer_types` does.

    BadInput for layers that are neither full nor sliding attention.
    """
    window = config.get("sliding_window", usual)
    kinds = config.get("layer_types") or kinds or ["sliding_attention"] * config["num_hidden_layers"]
    if odd := sorted(set(kinds) - {"full_attention", "sliding_attention"}):
        raise BadInput(f"{odd[0]} in {kinds.count(odd[0])} layers is not supported; choose another model")
    return tuple(window if window and kind == "sliding_attention" else 0 for kind in kinds)


def qwen_windows(config: Mapping[str, Any]) -> tuple[int, ...]:
    """The same as Qwen's configurations say it: the layers from `max_window_layers` on."""
    layers, first = config["num_hidden_layers"], config.get("max_window_layers", 28)
    windowed = config.get("use_sliding_window", False)
    kinds = ["sliding_attention" if windowed and i >= first else "full_attention" for i in range(layers)]
    found = read_windows(config, 4096, kinds)
    if any(found) and not windowed:
        raise BadInput("layer_types has sliding_attention and use_sliding_window is False; correct one of them")
    return found


def write_windows(cfg: Config) -> dict[str, Any]:
    """The entries of Qwen's kind; only one length of window can be said."""
    if not cfg.windows:
        return {"use_sliding_window": False, "sliding_window": None}
    whole = [cfg.window(layer) for layer in range(cfg.layers)]
    first = next(i for i, window in enumerate(whole) if window)
    return {"use_sliding_window": True, "sliding_window": max(whole), "max_window_layers": first, "layer_types": layer_types(cfg)}


def layer_types(cfg: Config) -> list[str]:
    """What transformers calls attention with and without a window."""
    return ["sliding_attention" if cfg.window(layer) else "full_attention" for layer in range(cfg.layers)]


def read_rotary(config: Mapping[str, Any], context: int, kv_heads: int | None, base: float = 10000.0, **own: Any) -> Config:
    """The entries that models of the Llama kind have in common; `context`, `kv_heads` and `base` are what a missing entry means, `own`
    the rest."""
    if "activation" not in own:
        expect(config, hidden_act=("silu",))
    if "rope_base" not in own:
        own |= read_rope({"max_position_embeddings": context, **config}, base)
        expect({"partial_rotary_factor": own["rotary_share"]}, partial_rotary_factor=(1.0,))
    heads = config["num_attention_heads"]
    own.setdefault("norm_eps", config.get("rms_norm_eps", 1e-6))
    own.setdefault("tied", bool(config.get("tie_word_embeddings", False)))
    return Config(
        vocab=config["vocab_size"], width=config["hidden_size"], layers=config["num_hidden_layers"], heads=heads,
        kv_heads=config.get("num_key_value_heads", kv_heads) or heads, ffn=config["intermediate_size"],
        context=config.get("max_position_embeddings", context), **own,
    )  # fmt: skip


def write_rotary(cfg: Config, **own: Any) -> dict[str, Any]:
    """The way back; `own` are the entries that one architecture has for itself."""
    return {
        "vocab_size": cfg.vocab, "hidden_size": cfg.width, "num_hidden_layers": cfg.layers, "num_attention_heads": cfg.heads,
        "num_key_value_heads": cfg.kv_heads, "intermediate_size": cfg.ffn, "hidden_act": "silu",
        "max_position_embeddings": cfg.context, "rms_norm_eps": cfg.norm_eps, **write_rope(cfg), "tie_word_embeddings": cfg.tied, **own,
    }  # fmt: skip


EXPERTS = ("mlp", "gate_proj", "up_proj", "down_proj")
NORMS = {"mixer_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}


def rotary_tensors(
    cfg: Config, norms: Mapping[str, str] = NORMS, fused: bool = False, experts: Sequence[str] = EXPERTS
) -> dict[str, Tensors]:
    """The names that models of the Llama kind have in common; biases and QK norms where the model has them.

    `norms` are those of a block; with `fused` the file, too, holds queries, keys and values in one tensor, and gate and up.
    `experts` are the names of a mixture: of itself, and of an expert's gate, up and down.
    """
    rows = (cfg.query_width, cfg.key_width, cfg.key_width)
    table = {"embed.weight": Tensors(("model.embed_tokens.weight",))}
    for i in range(cfg.layers):
        ours, theirs = f"blocks.{i}", f"model.layers.{i}"
        qkv = tuple(f"{theirs}.self_attn.{x}_proj" for x in ("q", "k", "v"))
        pair = (f"{theirs}.mlp.gate_proj", f"{theirs}.mlp.up_proj")
        if fused:
            qkv, pair = (f"{theirs}.self_attn.qkv_proj",), (f"{theirs}.mlp.gate_up_proj",)
        named = {name: {f"{ours}.{name}.weight": Tensors((f"{theirs}.{other}.weight",))} for name, other in norms.items()}
        table |= named["mixer_norm"]
        table |= linear(f"{ours}.mixer.qkv", qkv, () if fused else rows, cfg.qkv_bias)
        for x in "qk" if cfg.qk_norm else "":
            table[f"{ours}.mixer.{x}_norm.weight"] = Tensors((f"{theirs}.self_attn.{x}_norm.weight",))
        table |= linear(f"{ours}.mixer.out", (f"{theirs}.self_attn.o_proj",), (), cfg.out_bias)
        table |= {**named.get("mixer_post_norm", {}), **named["mlp_norm"]}
        if cfg.mixed(i):
            table |= mixture(cfg, ours, theirs, *experts)
        else:
            table |= linear(f"{ours}.mlp.gate_up", pair, () if fused else (cfg.ffn, cfg.ffn), cfg.mlp_bias)
            table |= linear(f"{ours}.mlp.down", (f"{theirs}.mlp.down_proj",), (), cfg.mlp_bias)
        table |= named.get("mlp_post_norm", {})
    table["norm.weight"] = Tensors(("model.norm.weight",))
    return table if cfg.tied else {**table, "head.weight": Tensors(("lm_head.weight",))}


def linear(ours: str, theirs: tuple[str, ...], rows: tuple[int, ...] = (), bias: bool = False) -> dict[str, Tensors]:
    """A linear layer under its names."""
    kinds = ("weight", "bias") if bias else ("weight",)
    return {f"{ours}.{kind}": Tensors(tuple(f"{name}.{kind}" for name in theirs), rows) for kind in kinds}


def mixture(cfg: Config, ours: str, theirs: str, own: str, gate: str, up: str, down: str) -> dict[str, Tensors]:
    """The router and the experts of a layer."""
    table, width = {f"{ours}.mlp.router.weight": Tensors((f"{theirs}.{own}.gate.weight",))}, cfg.expert_ffn or cfg.ffn
    for i in range(cfg.experts):
        expert, at = f"{ours}.mlp.experts.{i}", f"{theirs}.{own}.experts.{i}"
        table |= linear(f"{expert}.gate_up", (f"{at}.{gate}", f"{at}.{up}"), (width, width))
        table |= linear(f"{expert}.down", (f"{at}.{down}",))
    return table
