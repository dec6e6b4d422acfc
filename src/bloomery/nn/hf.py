"""Hugging Face folders in and out; only safetensors and JSON are read, nothing is ever unpickled."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bloomery.core.errors import BadInput, near
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.saving import plain

ARCHITECTURES = ("LlamaForCausalLM",)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
ROLES = ("bos_token", "eos_token", "pad_token")


# ---- names --------------------------------------------------------------------------------------------------------------


def names(cfg: Config) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """Native name -> the Hugging Face tensors whose rows it holds in order, and their numbers of rows (empty: one tensor, as it is)."""
    query, key = cfg.heads * cfg.head_width, cfg.kv_heads * cfg.head_width
    table: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {"embed.weight": (("model.embed_tokens.weight",), ())}
    for i in range(cfg.layers):
        ours, theirs = f"blocks.{i}", f"model.layers.{i}"
        table |= {
            f"{ours}.mixer_norm.weight": ((f"{theirs}.input_layernorm.weight",), ()),
            f"{ours}.mixer.qkv.weight": (tuple(f"{theirs}.self_attn.{x}_proj.weight" for x in "qkv"), (query, key, key)),
            f"{ours}.mixer.out.weight": ((f"{theirs}.self_attn.o_proj.weight",), ()),
            f"{ours}.mlp_norm.weight": ((f"{theirs}.post_attention_layernorm.weight",), ()),
            f"{ours}.mlp.gate_up.weight": ((f"{theirs}.mlp.gate_proj.weight", f"{theirs}.mlp.up_proj.weight"), (cfg.ffn, cfg.ffn)),
            f"{ours}.mlp.down.weight": ((f"{theirs}.mlp.down_proj.weight",), ()),
        }
    table["norm.weight"] = (("model.norm.weight",), ())
    if not cfg.tied:
        table["head.weight"] = (("lm_head.weight",), ())
    return table


def to_theirs(cfg: Config, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Native weights under Hugging Face names: fused rows are taken apart, no number changes."""
    theirs: dict[str, Tensor] = {}
    for ours, (parts, rows) in names(cfg).items():
        pieces = state[ours].split(rows) if rows else (state[ours],)
        theirs |= {name: piece.contiguous() for name, piece in zip(parts, pieces, strict=True)}
    return theirs


def to_ours(cfg: Config, theirs: dict[str, Tensor], where: Path) -> dict[str, Tensor]:
    """The way back; BadInput if a tensor is missing or one is left that the architecture does not know."""
    ours: dict[str, Tensor] = {}
    left = {name for name in theirs if not name.endswith("rotary_emb.inv_freq")}
    for name, (parts, _) in names(cfg).items():
        missing = [part for part in parts if part not in theirs]
        if missing:
            raise BadInput(f"{where} holds no tensor {missing[0]}; the download is incomplete or config.json belongs to another model")
        ours[name] = torch.cat([theirs[part] for part in parts]) if len(parts) > 1 else theirs[parts[0]]
        left.difference_update(parts)
    if cfg.tied:
        left.discard("lm_head.weight")
    if left:
        what = f"{len(left)} tensors that {ARCHITECTURES[0]} does not know, such as {min(left)}"
        raise BadInput(f"{where} holds {what}; its config.json names the wrong architecture")
    return ours


# ---- out ----------------------------------------------------------------------------------------------------------------


def special_ids(folder: Path | None) -> dict[str, int]:
    """Ids of the tokens that a folder's tokenizer names as `bos_token`, `eos_token`, `pad_token`; those it lacks are absent."""
    if folder is None or not (folder / "tokenizer.json").is_file() or not (folder / "tokenizer_config.json").is_file():
        return {}
    words = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    ids = {token["content"]: token["id"] for token in tokenizer.get("added_tokens", [])}
    found = {role: words.get(role) for role in ROLES}
    named = {role: word["content"] if isinstance(word, dict) else word for role, word in found.items() if word}
    return {role: ids[word] for role, word in named.items() if word in ids}


def to_hf(net: Transformer, tokenizer_folder: Path | None, out: Path, dtype: torch.dtype = torch.float32) -> None:
    """Writes a folder that `transformers` loads: config, weights in `dtype`, generation defaults and the tokenizer's files."""
    cfg, ids = net.cfg, {f"{role}_id": i for role, i in special_ids(tokenizer_folder).items()}
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": cfg.vocab, "hidden_size": cfg.width,
        "num_hidden_layers": cfg.layers, "num_attention_heads": cfg.heads, "num_key_value_heads": cfg.kv_heads,
        "head_dim": cfg.head_width, "intermediate_size": cfg.ffn, "hidden_act": "silu", "max_position_embeddings": cfg.context,
        "rms_norm_eps": cfg.norm_eps, "rope_theta": cfg.rope_base, "rope_parameters": {"rope_type": "default", "rope_theta": cfg.rope_base},
        "tie_word_embeddings": cfg.tied, "attention_bias": False, "mlp_bias": False, "use_cache": True,
        "dtype": str(dtype).removeprefix("torch."), "torch_dtype": str(dtype).removeprefix("torch."),
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id")), **ids,
    }  # fmt: skip
    _write(out / "config.json", config)
    _write(out / "generation_config.json", {"_from_model_config": True, **ids})
    weights = {name: t.to(dtype) for name, t in to_theirs(cfg, plain(net)).items()}
    save_file(weights, str(out / "model.safetensors"), metadata={"format": "pt"})
    for name in TOKENIZER_FILES if tokenizer_folder is not None else ():
        if (tokenizer_folder / name).is_file():
            shutil.copyfile(tokenizer_folder / name, out / name)


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


# ---- in -----------------------------------------------------------------------------------------------------------------


def from_hf(folder: Path) -> tuple[Config, dict[str, Tensor]]:
    """The configuration and the native weights, in the dtype they are stored in; BadInput names what is missing or unsupported."""
    folder = Path(folder)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{folder} has no readable config.json ({error}); give a folder that transformers could load") from error
    cfg = read_config(config, folder / "config.json")
    return cfg, to_ours(cfg, read_weights(folder), folder)


def read_config(config: dict[str, Any], where: Path) -> Config:
    """A Llama configuration of any transformers version; BadInput for whatever this decoder would compute differently."""
    architecture = (config.get("architectures") or [config.get("model_type", "nothing")])[0]
    if architecture not in (*ARCHITECTURES, "llama"):
        raise BadInput(f"{where}: architecture {architecture} is not supported; {near(architecture, list(ARCHITECTURES))}")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    odd = {
        "rope_type": (kind, "default"), "hidden_act": (config.get("hidden_act", "silu"), "silu"),
        "attention_bias": (config.get("attention_bias", False), False), "mlp_bias": (config.get("mlp_bias", False), False),
    }  # fmt: skip
    for name, (given, wanted) in odd.items():
        if given != wanted:
            raise BadInput(f"{where}: {name} {given!r} is not supported, only {wanted!r}; choose another model")
    try:
        heads = config["num_attention_heads"]
        cfg = Config(
            vocab=config["vocab_size"], width=config["hidden_size"], layers=config["num_hidden_layers"], heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads, ffn=config["intermediate_size"],
            context=config.get("max_position_embeddings", 2048), norm_eps=config.get("rms_norm_eps", 1e-6),
            rope_base=float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0), tied=config.get("tie_word_embeddings", False),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{where} does not describe a Llama model ({error!r}); compare it with the model's page") from error
    if (config.get("head_dim") or cfg.head_width) != cfg.head_width:
        raise BadInput(f"{where}: head_dim {config['head_dim']} other than hidden_size / num_attention_heads is not supported")
    return cfg


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of `model.safetensors`, or of the shards that `model.safetensors.index.json` names."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        files = ["model.safetensors"]
    elif index.is_file():
        files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    else:
        pickled = next((f.name for f in folder.glob("*.bin")), None)
        why = f"only {pickled}, which would have to be unpickled: convert it to safetensors" if pickled else "none: download it again"
        raise BadInput(f"{folder} should hold model.safetensors and holds {why}")
    weights: dict[str, Tensor] = {}
    for name in files:
        if Path(name).name != name:
            raise BadInput(f"{index} names the shard {name!r}, which is outside its folder; use an index that names files beside it")
        try:
            weights |= load_file(str(folder / name))
        except (OSError, SafetensorError) as error:
            raise BadInput(f"{folder / name} cannot be read ({error}); download it again") from error
    return weights
