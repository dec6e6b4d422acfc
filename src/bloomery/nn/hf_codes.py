"""What all Hugging Face folders with codes have in common: dense weights as `transformers` has them, codes instead of the others.

Each format says which tensors stand for a linear (nn/compressed_tensors.py, nn/gptq_layout.py, nn/torchao.py).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from bloomery.core.errors import BadInput
from bloomery.nn import hf, sparse
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.packed import Packed, linears
from bloomery.nn.sites import sites
from bloomery.nn.sparse import Sparse
from bloomery.nn.stacked import Stacked

MORE = {"order": "order", "shift_OG": "shift", "input_I": "input", "left_OK": "left"}  # what these formats have no place for
Parts = Callable[[Packed, slice], dict[str, Tensor]]  # some rows of a linear -> what stands after its name
Flatten = Callable[[dict[str, Tensor]], tuple[dict[str, Tensor], dict[str, str]]]  # -> plain tensors, and what is said of them


def refuse(net: Transformer, packed: Mapping[str, Any], kind: str) -> None:
    """BadInput naming why a model cannot be written as codes and scales in the format `kind`."""
    if not packed:
        raise BadInput(f"the model is not compressed, and {kind} holds codes: give what a compress step made")
    if not net.cfg.causal or net.cfg.experts:
        raise BadInput(f"{kind} folders of {net.cfg.architecture} are not written yet; export as huggingface")
    if any(one.heads for one in hf.tensors(net.cfg).values()):
        raise BadInput(f"{kind} has no place for the interleaved heads of {net.cfg.architecture}; export as huggingface")
    if any(one.transposed for one in hf.tensors(net.cfg).values()):
        raise BadInput(f"{kind} has no place for the Conv1D layers of {net.cfg.architecture}; export as gguf")
    for name, one in packed.items():
        if not isinstance(one, Packed):
            what = "has zeros" if isinstance(one, Sparse) else "is a stack of blocks"
            raise BadInput(f"{name} {what}, and {kind} holds codes; export as huggingface or gguf, which are dense")
        if one.order is not None:
            raise BadInput(f"{name} has its columns in another order, which {kind} cannot say; compress in the columns' order")
        if not one.uniform:
            raise BadInput(f"{name} is more than codes and scales, which {kind} cannot say; export as huggingface or gguf")
        if one.shape[1] % one.group:
            raise BadInput(f"{name} has {one.shape[1]} columns, which groups of {one.group} do not divide; choose another group")


def outlined(folder: Path, cfg: Config) -> dict[str, Any]:
    """The packed linears of a native folder as far as `refuse` looks at them, from what describes them: their tensors hold no numbers."""
    with safe_open(str(folder / "model.safetensors"), framework="pt") as opened:
        there = set(opened.keys())
    shapes, found = _shapes(cfg), {}
    for name, about in linears(folder).items():
        whole = _nothing(*shapes[name])
        if form := about.get("form"):
            found[name] = Sparse(whole, whole) if form == sparse.FORM else Stacked(whole[None], whole[None], None, None, whole)
            continue
        one = _outline(shapes[name], about["bits"], about["group"], about["symmetric"])
        more = {place: _nothing(0) for place, part in MORE.items() if f"{name}.{part}" in there}
        found[name] = replace(one, **more, levels=tuple(about.get("levels", ())), inputs="int8" if about.get("inputs") else "")
    return found


def expected(cfg: Config, bits: int, group: int, symmetric: bool, but: Sequence[str]) -> dict[str, Packed]:
    """The same of a model that is not made yet, all of whose linears `but` those that a pattern names will be such codes."""
    shapes = {name: shape for name, shape in _shapes(cfg).items() if not any(fnmatchcase(name, pattern) for pattern in but)}
    return {name: _outline(shape, bits, shape[1] if group == -1 else min(group, shape[1]), symmetric) for name, shape in shapes.items()}


def _shapes(cfg: Config) -> dict[str, tuple[int, int]]:
    """(O, I) of every linear of the blocks."""
    return {site.name: tuple(unit.weight.shape) for site, unit in sites(Transformer(cfg, None)) if site.kind == "linear"}


def _outline(shape: tuple[int, int], bits: int, group: int, symmetric: bool) -> Packed:
    scale = _nothing(shape[0], -(-shape[1] // group))
    return Packed(_nothing(*shape), scale, None if symmetric else scale, bits, group)


def _nothing(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


def write(
    net: Transformer, packed: Mapping[str, Packed], parts: Parts, quantization: Mapping[str, Any], words: Path, out: Path,
    dtype: torch.dtype = torch.float32, flatten: Flatten = lambda weights: (weights, {}),
) -> None:  # fmt: skip
    """The folder: dense weights in `dtype`, of packed linears the tensors that `parts` names, and `quantization` in config.json.

    `flatten` takes tensors of other classes apart.
    """
    hf.to_hf(net, words, out, dtype, shard=sys.maxsize)  # one file, which is written anew below
    weights = {name: t for native, t in dense(net, packed, dtype).items() for name, t in theirs(net, native, t).items()}
    for native, one in packed.items():
        for name, part in rows(net, native).items():
            weights |= {f"{name}.{key}": t for key, t in parts(one, part).items()}
    flat, told = flatten(weights)
    whole = {name: t.contiguous() for name, t in flat.items()}
    save_file(whole, str(out / "model.safetensors"), metadata={"format": "pt", **told})
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = dict(quantization)
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def rows(net: Transformer, native: str) -> dict[str, slice]:
    """The Hugging Face modules of a native linear, and which of its rows are theirs."""
    held = hf.tensors(net.cfg)[f"{native}.weight"]
    found, at = {}, 0
    for i, name in enumerate(held.names):
        stop = at + held.rows[i] if held.rows else None
        found[name.removesuffix(".weight")] = slice(at, stop)
        at = stop or 0
    return found


def modules(net: Transformer, packed: Mapping[str, Packed]) -> dict[str, Packed]:
    """The Hugging Face modules that hold codes, with the native linear that each is a part of."""
    return {name: one for native, one in packed.items() for name in rows(net, native)}


def dense_modules(net: Transformer, packed: Mapping[str, Packed]) -> list[str]:
    """The Hugging Face linears that hold no codes, a tied head among them."""
    every = [name for native in hf.tensors(net.cfg) if native.endswith(".weight") for name in rows(net, native.removesuffix(".weight"))]
    linears = [name for name in every if name.endswith(("_proj", "lm_head"))] + (["lm_head"] if net.cfg.tied else [])
    held = modules(net, packed)
    return [name for name in linears if name not in held]


def dense(net: Transformer, packed: Mapping[str, Packed], dtype: torch.dtype) -> dict[str, Tensor]:
    """Native tensors that are stored as they are."""
    held = {f"{name}.weight" for name in packed}
    state = net.state_dict()
    return {name: state[name].detach().cpu().to(dtype) for name in hf.tensors(net.cfg) if name not in held}


def theirs(net: Transformer, native: str, t: Tensor) -> dict[str, Tensor]:
    """A native tensor under its Hugging Face names."""
    held = hf.tensors(net.cfg)[native]
    pieces = t.split(held.rows) if held.rows else (t,)
    return {name: piece.contiguous() for name, piece in zip(held.names, pieces, strict=True)}
