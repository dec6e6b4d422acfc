"""A model as a GGUF file, the format of llama.cpp, and the way back. The bytes of quantized tensors are made in nn/gguf_blocks.py.

Shapes: O rows (outputs), I columns (inputs).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from bloomery.core.errors import BadInput
from bloomery.nn import gguf_blocks, hf
from bloomery.nn.config import Config
from bloomery.nn.gguf_words import Words
from bloomery.nn.mapping import sayable
from bloomery.nn.model import Transformer

if TYPE_CHECKING:
    from bloomery.nn.packed import Packed

Type = Literal["F32", "F16", "Q8_0", "Q4_0", "Q4_K"]
ARCHITECTURES = ("gpt2", "llama", "qwen2", "qwen3")
TABLES = ("token_embd.weight", "output.weight")  # one row for each token
GGML_ROLES = {"bos": "bos", "eos": "eos", "pad": "padding", "eot": "eot"}  # how the keys of special tokens are spelt
EXACT, ROUNDED, KEPT, QUANTIZED = "exact", "rounded", "codes kept", "quantized"
BEYOND = "{} holds numbers beyond the range of fp16; export with `type: F32`"


@dataclass(frozen=True)
class Place:
    """Rows of a native tensor as one tensor of the file; `heads` > 0: ggml turns neighbours where we turn halves, so rows move."""

    name: str
    start: int
    stop: int
    heads: int = 0

    def order(self) -> Tensor:
        """Row i of the file's tensor is row order[i] of the native one."""
        rows = torch.arange(self.start, self.stop)
        return rows.view(self.heads, 2, -1).transpose(1, 2).reshape(-1) if self.heads else rows


@dataclass(frozen=True)
class Entry:
    """One tensor of the file: how it came about, its bytes, and the fp32 numbers that they stand for."""

    name: str
    type: Type
    how: str
    data: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Stored:
    """What is told about a tensor that was written."""

    name: str
    type: Type
    how: str
    numbers: int
    bytes: int


# ---- names --------------------------------------------------------------------------------------------------------------


def places(cfg: Config) -> dict[str, list[Place]]:
    """Native name -> the file's tensors that its rows become."""
    import gguf

    writable(cfg)
    arch = next((number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == cfg.architecture), None)
    if arch is None:
        raise BadInput(f"llama.cpp knows no architecture {cfg.architecture}; export as huggingface")
    table = gguf.get_tensor_name_map(arch, cfg.layers)
    turned = {"attn_q": cfg.heads, "attn_k": cfg.kv_heads} if cfg.architecture == "llama" else {}
    found: dict[str, list[Place]] = {}
    for native, theirs in hf.tensors(cfg).items():
        at, found[native] = 0, []
        for i, name in enumerate(theirs.names):
            ours = table.get_name(name, try_suffixes=(".weight", ".bias"))
            if ours is None:
                raise BadInput(f"llama.cpp's {cfg.architecture} has no place for {name}; export as huggingface")
            rows = theirs.rows[i] if theirs.rows else -1
            heads = turned.get(ours.split(".")[-2], 0)
            found[native].append(Place(ours, at, at + rows if rows >= 0 else -1, heads))
            at += rows
    return found


def writable(cfg: Config) -> None:
    """BadInput naming what these files would leave out, so that llama.cpp would compute something else."""
    sayable(cfg)
    if cfg.architecture not in ARCHITECTURES:
        raise BadInput(f"a GGUF file of {cfg.architecture} is not written yet, only of {', '.join(ARCHITECTURES)}; export as huggingface")
    if odd := next((name for name in ("rope_scaling", "windows") if getattr(cfg, name)), None):
        raise BadInput(f"a GGUF file would leave out {odd} {getattr(cfg, odd)}; export as huggingface")
    hf.write_config(cfg)  # what the architecture has no word for, these files have none for either


def hyperparameters(cfg: Config) -> dict[str, int | float]:
    """Keys below the architecture's name."""
    writable(cfg)
    keys: dict[str, int | float] = {
        "vocab_size": cfg.vocab, "context_length": cfg.context, "embedding_length": cfg.width, "block_count": cfg.layers,
        "feed_forward_length": cfg.ffn, "attention.head_count": cfg.heads, "attention.head_count_kv": cfg.kv_heads,
    }  # fmt: skip
    if cfg.architecture == "gpt2":
        return keys | {"attention.layer_norm_epsilon": cfg.norm_eps}
    turned = {"attention.key_length": cfg.head_width, "attention.value_length": cfg.head_width, "rope.dimension_count": cfg.head_width}
    return keys | turned | {"rope.freq_base": cfg.rope_base, "attention.layer_norm_rms_epsilon": cfg.norm_eps}


# ---- contents -----------------------------------------------------------------------------------------------------------


def contents(net: Transformer, packed: Mapping[str, Packed], kind: Type, embedding: Type) -> Iterator[Entry]:
    """Every tensor of the file in order. Vectors and positions are fp32; the embedding and the head have the type `embedding`.

    A linear that `packed` holds as symmetric codes of the type's width keeps its codes; others are quantized from `net`. Rows that
    blocks of the type do not divide are Q8_0 instead of Q4_K, or F16.
    """
    state = {name: t.detach().cpu() for name, t in net.state_dict().items()}
    for native, parts in places(net.cfg).items():
        stored = packed.get(native.removesuffix(".weight")) if native.endswith(".weight") else None
        for place in parts:
            whole = Place(place.name, 0, len(state[native]), place.heads) if place.stop < 0 else place
            order = whole.order()
            values = state[native][order].float().numpy()
            chosen = "F32" if values.ndim == 1 or place.name.startswith("position_embd") else kind
            chosen = embedding if place.name in TABLES else chosen
            chosen = gguf_blocks.fitting(chosen, values.shape[-1])
            yield entry(place.name, chosen, values, stored if stored and fits(stored, chosen) else None, order)


def fits(packed: Packed, kind: str) -> bool:
    """Whether a block type of GGUF can hold these codes and scales as they are; other forms than codes have none."""
    if not hasattr(packed, "codes_OI") or not packed.uniform:
        return False
    plain = packed.zero_OG is None and gguf_blocks.BITS.get(kind) == packed.bits
    return plain and packed.group % gguf_blocks.BLOCK == 0 and packed.codes_OI.shape[1] % gguf_blocks.BLOCK == 0


def entry(name: str, kind: Type, values: np.ndarray, packed: Packed | None, order: Tensor) -> Entry:
    """One tensor in the type `kind`."""
    if kind == "F32":
        return Entry(name, kind, EXACT, values, values)
    if kind == "F16":
        with np.errstate(over="ignore"):
            data = values.astype(np.float16)
        if not np.isfinite(data).all():
            raise BadInput(BEYOND.format(name))
        return Entry(name, kind, EXACT if np.array_equal(data, values) else ROUNDED, data, data.astype(np.float32))
    if packed is not None:
        data = gguf_blocks.coded(packed.codes_OI[order].numpy(), packed.scale_OG[order].numpy(), packed.group, kind)
        return Entry(name, kind, KEPT, data, packed.dense()[order].numpy())
    with np.errstate(over="ignore", invalid="ignore"):
        data = gguf_blocks.quantized(values, kind)
        meant = gguf_blocks.meaning(data, kind)
    if not np.isfinite(meant).all():
        raise BadInput(BEYOND.format(name))
    return Entry(name, kind, QUANTIZED, data, meant)


# ---- out ----------------------------------------------------------------------------------------------------------------


def write(path: Path, cfg: Config, entries: Iterable[Entry], words: Words, kind: Type, name: str) -> list[Stored]:
    """The file: hyperparameters, tokenizer, tensors. `name` is what programs show."""
    import gguf

    writer = gguf.GGUFWriter(path, cfg.architecture)
    writer.add_type("model")
    writer.add_name(name)
    for key, value in hyperparameters(cfg).items():
        (writer.add_uint32 if isinstance(value, int) else writer.add_float32)(f"{cfg.architecture}.{key}", value)
    most = {"F32": "ALL_F32", "F16": "MOSTLY_F16", "Q8_0": "MOSTLY_Q8_0", "Q4_0": "MOSTLY_Q4_0", "Q4_K": "MOSTLY_Q4_K_S"}[kind]
    writer.add_file_type(int(gguf.LlamaFileType[most]))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _write_words(writer, words)
    stored = []
    for one in entries:
        writer.add_tensor(one.name, np.ascontiguousarray(one.data), raw_dtype=gguf.GGMLQuantizationType[one.type])
        stored.append(Stored(one.name, one.type, one.how, one.values.size, one.data.nbytes))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return stored


def _write_words(writer: Any, words: Words) -> None:
    writer.add_tokenizer_model("gpt2")  # byte-level BPE
    writer.add_tokenizer_pre(words.pre)
    writer.add_token_list(words.tokens)
    writer.add_token_types(words.types)
    writer.add_token_merges(words.merges)
    for role, i in words.ids.items():
        getattr(writer, f"add_{role}_token_id")(i)
    writer.add_add_bos_token(words.begins)
    writer.add_add_eos_token(words.ends)
    if words.template:
        writer.add_chat_template(words.template)


# ---- in -----------------------------------------------------------------------------------------------------------------


def read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The file's keys and its tensors as fp32 numbers, as the package gguf reads and dequantizes them."""
    import gguf

    reader = gguf.GGUFReader(path)
    keys = {name: field.contents() for name, field in reader.fields.items()}
    values = {one.name: np.array(gguf.quants.dequantize(one.data, one.tensor_type), dtype=np.float32) for one in reader.tensors}
    return keys, {one.name: values[one.name].reshape(tuple(int(n) for n in one.shape[::-1])) for one in reader.tensors}


def to_ours(cfg: Config, values: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Native weights (fp32) of the file's tensors; BadInput where one is missing."""
    ours: dict[str, Tensor] = {}
    for native, parts in places(cfg).items():
        pieces = []
        for place in parts:
            if place.name not in values:
                raise BadInput(f"the file holds no tensor {place.name}; it is incomplete or of another architecture")
            piece = torch.from_numpy(np.ascontiguousarray(values[place.name]))
            back = Place(place.name, 0, len(piece), place.heads).order().argsort()
            pieces.append(piece[back])
        ours[native] = torch.cat(pieces)
    return ours


def differing(meant: Iterable[Entry], values: Mapping[str, np.ndarray]) -> list[str]:
    """Tensors that are missing, unexpected, or differ in a bit from what was meant."""
    left, differ = set(values), []
    for one in meant:
        left.discard(one.name)
        found = values.get(one.name)
        if found is None or found.shape != one.values.shape or not np.array_equal(found, one.values):
            differ.append(one.name)
    return differ + sorted(left)


def wrong_keys(cfg: Config, words: Words, keys: Mapping[str, Any]) -> list[str]:
    """Keys of the file that do not describe this model and this tokenizer; numbers are compared as fp32, as they are stored."""
    wanted: dict[str, Any] = {f"{cfg.architecture}.{key}": value for key, value in hyperparameters(cfg).items()}
    wanted |= {"general.architecture": cfg.architecture, "tokenizer.ggml.pre": words.pre, "tokenizer.ggml.tokens": words.tokens}
    wanted |= {"tokenizer.ggml.token_type": words.types, "tokenizer.ggml.add_bos_token": words.begins}
    wanted |= {"tokenizer.chat_template": words.template, "tokenizer.ggml.merges": words.merges}
    wanted |= {f"tokenizer.ggml.{GGML_ROLES[role]}_token_id": i for role, i in words.ids.items()}
    return [key for key, value in wanted.items() if not _equal(keys.get(key), value)]


def _equal(found: Any, wanted: Any) -> bool:
    return np.float32(found) == np.float32(wanted) if isinstance(wanted, float) and found is not None else found == wanted
