"""Hugging Face folders in and out; only safetensors and JSON are read, nothing is ever unpickled."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bloomery.core.errors import BadInput, near
from bloomery.nn.config import Config
from bloomery.nn.mapping import ENCODERS, Architecture, Tensors, expect, sayable
from bloomery.nn.maps import (
    bert,
    gemma2,
    gpt2,
    gpt_neox,
    granite,
    llama,
    mistral,
    mixtral,
    modernbert,
    olmo2,
    phi3,
    qwen2,
    qwen3,
    qwen3_moe,
    starcoder2,
    t5,
)  # fmt: skip
from bloomery.nn.model import Transformer
from bloomery.nn.saving import plain

# named here, so that the address of a step covers their source
MAPS: tuple[Architecture, ...] = (
    bert, gemma2, gpt2, gpt_neox, granite, llama, mistral, mixtral, modernbert, olmo2, phi3, qwen2, qwen3, qwen3_moe, starcoder2, t5,
)  # fmt: skip
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
GENERATION = "generation_config.json"
SHARD = 5 * 10**9  # bytes of a file of weights at most
ROLES = ("bos_token", "eos_token", "pad_token")
CODES = ("gptq",)  # values of `quant_method` whose codes are read, see nn/gptq_layout.py


# ---- names --------------------------------------------------------------------------------------------------------------


def architecture(name: str) -> Architecture:
    """The map of an entry of "architectures" or of a "model_type"; BadInput names what is near where there is none."""
    for one in MAPS:
        if name in (one.ARCHITECTURE, one.MODEL_TYPE):
            return one
    names = [one.MODEL_TYPE if name.islower() else one.ARCHITECTURE for one in MAPS]
    raise BadInput(f"architecture {name} is not supported; {near(name, names)}")


def tensors(cfg: Config) -> dict[str, Tensors]:
    """Native name -> the Hugging Face tensors that it holds."""
    return architecture(cfg.architecture).tensors(cfg)


def to_theirs(cfg: Config, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Native weights under Hugging Face names: fused rows are taken apart, no number changes."""
    theirs: dict[str, Tensor] = {}
    for ours, held in tensors(cfg).items():
        pieces = state[ours].split(held.rows) if held.rows else (state[ours],)
        theirs |= {name: turned(piece, held, (3, held.heads)).contiguous() for name, piece in zip(held.names, pieces, strict=True)}
    return theirs


def to_ours(cfg: Config, theirs: dict[str, Tensor], where: Path) -> dict[str, Tensor]:
    """The way back; BadInput if a tensor is missing or one is left that the architecture does not know."""
    table, doubles = origins(cfg, theirs, where)
    ours = {native: joined(held, [theirs[name] for name in table[native]]) for native, held in tensors(cfg).items()}
    for name, native in doubles.items():
        tied(name, theirs[name], ours[native], where)
    return ours


def origins(cfg: Config, given: Iterable[str], where: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Of the tensors that a folder holds, by their names there: those of each native one, and the doubles of tied ones by what they repeat.

    BadInput if one is missing or one is left over.
    """
    known, table = architecture(cfg.architecture), tensors(cfg)
    called = {recent(name): name for name in given if not name.endswith(known.BUFFERS)}
    if not any(name.startswith(known.PREFIX) for name in called):
        outside = {part for held in table.values() for part in held.names if not part.startswith(known.PREFIX)} | known.TIED.keys()
        called = {name if name in outside else known.PREFIX + name: there for name, there in called.items()}
    left, found = set(called), {}
    for native, held in table.items():
        missing = [part for part in held.names if part not in called]
        if missing:
            raise BadInput(f"{where} holds no tensor {missing[0]}; the download is incomplete or config.json belongs to another model")
        found[native] = [called[part] for part in held.names]
        left.difference_update(held.names)
    doubled = sorted(left & known.TIED.keys()) if cfg.tied else []
    left.difference_update(doubled)
    if left:
        what = f"{len(left)} tensors that {known.ARCHITECTURE} does not know, such as {min(left)}"
        raise BadInput(f"{where} holds {what}; its config.json names the wrong architecture")
    return found, {called[name]: known.TIED[name] for name in doubled}


def joined(held: Tensors, parts: Sequence[Tensor]) -> Tensor:
    """The native tensor of the Hugging Face ones that it holds; BadInput for whole numbers, which no weight is."""
    if odd := next((name for name, part in zip(held.names, parts, strict=True) if not part.is_floating_point()), None):
        raise BadInput(f"{odd} holds whole numbers, as codes of a compressed model are, and its config.json names no compression")
    parts = [turned(part, held, (held.heads, 3)) for part in parts]
    return (torch.cat(parts) if len(parts) > 1 else parts[0]).contiguous()


def tied(name: str, double: Tensor, native: Tensor, where: Path) -> None:
    """BadInput where a tensor that config.json says is tied has numbers of its own."""
    if not double.equal(native):
        raise BadInput(f"{where} holds a {name} of its own and config.json says tie_word_embeddings; correct the config")


def recent(name: str) -> str:
    """A tensor's name as it is today: the first files of BERT call gains gamma and biases beta."""
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def turned(t: Tensor, held: Tensors, order: tuple[int, int]) -> Tensor:
    """A tensor as the other side stores it: a matrix may lie there as (in, out), rows in groups of another `order`."""
    if held.heads:
        return t.unflatten(0, (*order, -1)).transpose(0, 1).flatten(0, 2)
    return t.t() if held.transposed and t.dim() == 2 else t


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


def end_ids(folder: Path) -> set[int]:
    """End tokens named by a model's own configuration files."""
    found: set[int] = set()
    for name in (GENERATION, "config.json"):
        if (folder / name).is_file():
            ids = json.loads((folder / name).read_text(encoding="utf-8")).get("eos_token_id")
            found |= set() if ids is None else {ids} if isinstance(ids, int) else set(ids)
    return found


def all_ends(folder: Path) -> list[int]:
    """Every token that ends an answer: those of the configuration files, the tokenizer's end token, and those of the chat template."""
    from bloomery.data.chat.template import ChatTemplate

    template, end = ChatTemplate.load(folder), special_ids(folder).get("eos_token")
    return sorted(end_ids(folder) | ({end} if end is not None else set()) | set(template.stops if template else ()))


def copy_words(source: Path, out: Path) -> None:
    """The tokenizer's files, and generation_config.json with every end token that the source's configuration files name."""
    for name in (*TOKENIZER_FILES, GENERATION):
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)
    ends = end_ids(source)
    if ends - end_ids(out):
        stored = json.loads((out / GENERATION).read_text(encoding="utf-8")) if (out / GENERATION).is_file() else {}
        _write(out / GENERATION, {**stored, "eos_token_id": sorted(ends)})


def generation(folder: Path | None) -> dict[str, Any]:
    """The generation defaults that a folder has, such as a temperature; without any, those of its configuration count."""
    if folder is None or not (folder / GENERATION).is_file():
        return {"_from_model_config": True}
    return json.loads((folder / GENERATION).read_text(encoding="utf-8"))


def to_hf(net: Transformer, tokenizer_folder: Path | None, out: Path, dtype: torch.dtype = torch.float32, shard: int = SHARD) -> None:
    """Writes a folder that `transformers` loads: config, weights in `dtype`, generation defaults and the tokenizer's files.

    Weights of more than `shard` bytes become several files and their index.
    """
    ids = {f"{role}_id": i for role, i in special_ids(tokenizer_folder).items()}
    if net.cfg.encoder_layers:  # the decoder begins with the padding token, without which transformers does not generate
        ids["decoder_start_token_id"] = ids.setdefault("pad_token_id", 0)
    config = {
        **write_config(net.cfg), "use_cache": True,
        "dtype": str(dtype).removeprefix("torch."), "torch_dtype": str(dtype).removeprefix("torch."),
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id")), **ids,
    }  # fmt: skip
    _write(out / "config.json", config)
    ends = all_ends(tokenizer_folder) if tokenizer_folder is not None else []
    several = {"eos_token_id": ends[0] if len(ends) == 1 else ends} if ends else {}
    _write(out / GENERATION, {**generation(tokenizer_folder), **ids, **several})
    weights = {name: t.to(dtype) for name, t in to_theirs(net.cfg, plain(net)).items()}
    write_weights(weights, out, shard)
    for name in TOKENIZER_FILES if tokenizer_folder is not None else ():
        if (tokenizer_folder / name).is_file():
            shutil.copyfile(tokenizer_folder / name, out / name)


def write_weights(weights: dict[str, Tensor], out: Path, shard: int) -> None:
    """One file, or as many as it takes that none is larger than `shard` bytes, unless one tensor is."""
    parts: list[dict[str, Tensor]] = [{}]
    for name, t in weights.items():
        if parts[-1] and sum(one.nbytes for one in parts[-1].values()) + t.nbytes > shard:
            parts.append({})
        parts[-1][name] = t
    files = [f"model-{i:05}-of-{len(parts):05}.safetensors" for i in range(1, len(parts) + 1)] if len(parts) > 1 else ["model.safetensors"]
    for file, part in zip(files, parts, strict=True):
        save_file(part, str(out / file), metadata={"format": "pt"})
    if len(parts) > 1:
        places = {name: file for file, part in zip(files, parts, strict=True) for name in part}
        total = sum(t.nbytes for t in weights.values())
        _write(out / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": places})


def write_config(cfg: Config) -> dict[str, Any]:
    """The entries of config.json that decide what is computed; BadInput where the architecture has no word for it."""
    sayable(cfg)
    known = architecture(cfg.architecture)
    config = {"architectures": [known.ARCHITECTURE], "model_type": known.MODEL_TYPE, **known.write(cfg)}
    told = read_config(config, Path("config.json"))
    lost = [name for name, value in vars(cfg).items() if getattr(told, name) != value]
    if lost:
        raise BadInput(f"{known.ARCHITECTURE} cannot say {lost[0]} {getattr(cfg, lost[0])!r}; give the model another architecture")
    return config


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


# ---- in -----------------------------------------------------------------------------------------------------------------


def from_hf(folder: Path) -> tuple[Config, dict[str, Tensor]]:
    """The configuration and the native weights, in the dtype they are stored in; BadInput names what is missing or unsupported.

    Codes in the layout of GPTQ are read as the fp32 numbers that they stand for.
    """
    cfg, weights = config_of(folder), read_weights(folder)
    if told := codes_of(folder):
        from bloomery.nn import gptq_layout

        weights = gptq_layout.dense(weights, told, Path(folder))
    return cfg, to_ours(cfg, weights, Path(folder))


def config_of(folder: Path) -> Config:
    """The configuration of a folder; BadInput names what is missing or unsupported."""
    return read_config(_config(folder), Path(folder) / "config.json")


def codes_of(folder: Path) -> dict[str, Any]:
    """What config.json says of codes instead of weights; nothing for a dense model."""
    return _config(folder).get("quantization_config") or {}


def _config(folder: Path) -> dict[str, Any]:
    file = Path(folder) / "config.json"
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{folder} has no readable config.json ({error}); give a folder that transformers could load") from error


def read_config(config: dict[str, Any], where: Path) -> Config:
    """The configuration of any transformers version; BadInput for whatever our decoder would compute differently."""
    kind = config.get("model_type")
    name = (config.get("architectures") or [kind or "nothing"])[0]
    try:
        if isinstance(config.get("architectures"), str):
            raise BadInput(f"architectures must be a list, got {config['architectures']!r}")
        known = architecture(name)
        if kind not in (None, known.MODEL_TYPE):
            raise BadInput(f"architectures says {name} and model_type {kind}, which is not the same model; correct one of them")
        if (config.get("quantization_config") or {}).get("quant_method") not in CODES:
            expect(config, quantization_config=(None,))
        expect(config, is_encoder_decoder=(known.MODEL_TYPE == "t5",))
        if known.MODEL_TYPE not in ENCODERS:
            expect(config, is_causal=(True,))  # false makes any decoder of transformers see the whole text
        return numbers(known.read(config))
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from error
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise BadInput(f"{where} does not describe a {name} model ({error!r}); compare it with the model's page") from error


def numbers(cfg: Config) -> Config:
    """The same; BadInput where a size is no whole number, or another number is none: torch says so only when a token is read, if at all."""
    for one in fields(cfg):
        value, kinds = getattr(cfg, one.name), {"int": (int,), "float": (int, float)}.get(one.type)
        if kinds and (isinstance(value, bool) or not isinstance(value, kinds)):
            raise BadInput(f"{one.name} must be a {'whole ' if len(kinds) == 1 else ''}number, got {value!r}")
    return cfg


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of `model.safetensors`, or of the shards that `model.safetensors.index.json` names."""
    weights: dict[str, Tensor] = {}
    for file in weight_files(folder):
        try:
            weights |= load_file(str(file))
        except (OSError, SafetensorError) as error:
            raise BadInput(f"{file} cannot be read ({error}); download it again") from error
    return weights


def weight_files(folder: Path) -> list[Path]:
    """`model.safetensors`, or the shards that the index names; BadInput where there is neither."""
    folder = Path(folder)
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        files = ["model.safetensors"]
    elif index.is_file():
        files = shards(index)
    else:
        pickled = next((f.name for f in folder.glob("*.bin")), None)
        why = f"only {pickled}, which would have to be unpickled: convert it to safetensors" if pickled else "none: download it again"
        raise BadInput(f"{folder} should hold model.safetensors and holds {why}")
    for name in files:
        if Path(name).name != name:
            raise BadInput(f"{index} names the shard {name!r}, which is outside its folder; use an index that names files beside it")
    return [folder / name for name in files]


def shards(index: Path) -> list[str]:
    """The files that an index names; BadInput where it is none."""
    try:
        return sorted(map(str, set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{index} does not say which file holds which tensor ({error!r}); download it again") from error
