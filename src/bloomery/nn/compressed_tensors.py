"""A compressed model as a Hugging Face folder in the "pack-quantized" format of compressed-tensors, which transformers and vLLM read.

Of each packed linear NAME the folder holds NAME.weight_packed (int32, codes as they are, none is rounded again), NAME.weight_scale,
NAME.weight_shape and, where there are zeros, NAME.weight_zero_point. Shapes: O outputs, I inputs, G groups of inputs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from bloomery.core.errors import BadInput
from bloomery.nn import hf
from bloomery.nn.model import Transformer
from bloomery.nn.packed import Packed, pack
from bloomery.nn.sparse import Sparse

WHOLE = "channel"  # one scale for a row


def write(net: Transformer, packed: Mapping[str, Packed], tokenizer_folder: Path, out: Path, dtype: torch.dtype = torch.float32) -> None:
    """The folder, its dense weights in `dtype`. BadInput for what the format cannot say.

    Scales stay fp16. Where there are zeros they are fp32: transformers opens such folders only with `dequantize=True`, which computes
    in the type of the scales, so that fp16 would round every weight.
    """
    refuse(net, packed)
    hf.to_hf(net, tokenizer_folder, out, dtype, shard=sys.maxsize)  # one file, which is written anew below
    weights = {name: t for native, t in _dense(net, packed, dtype).items() for name, t in _theirs(net, native, t).items()}
    schemes: dict[tuple[int, int, bool], list[str]] = {}
    for native, one in packed.items():
        for name, rows in _rows(net, native).items():
            weights |= {f"{name}.{part}": t for part, t in _parts(one, rows).items()}
            schemes.setdefault(_scheme(one), []).append(name)
    save_file(weights, str(out / "model.safetensors"), metadata={"format": "pt"})
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = quantization(net, schemes)
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def refuse(net: Transformer, packed: Mapping[str, Packed]) -> None:
    """BadInput naming why a model cannot be written so."""
    if not packed:
        raise BadInput("the model is not compressed, and compressed-tensors holds codes: give what a compress step made")
    if not net.cfg.causal or net.cfg.experts:
        raise BadInput(f"compressed-tensors folders of {net.cfg.architecture} are not written yet; export as huggingface")
    if any(one.heads for one in hf.tensors(net.cfg).values()):
        raise BadInput(f"compressed-tensors has no place for the interleaved heads of {net.cfg.architecture}; export as huggingface")
    if any(one.transposed for one in hf.tensors(net.cfg).values()):
        raise BadInput(f"compressed-tensors has no place for the Conv1D layers of {net.cfg.architecture}; export as gguf")
    for name, one in packed.items():
        if not isinstance(one, Packed):
            what = "has zeros" if isinstance(one, Sparse) else "is a stack of blocks"
            raise BadInput(f"{name} {what}, and compressed-tensors holds codes; export as huggingface or gguf, which are dense")
        if one.order is not None:
            raise BadInput(f"{name} has its columns in another order, which compressed-tensors cannot say; compress in the columns' order")
        if not one.uniform:
            raise BadInput(f"{name} is more than codes and scales, which compressed-tensors cannot say; export as huggingface or gguf")
        if one.codes_OI.shape[1] % one.group:
            raise BadInput(f"{name} has {one.codes_OI.shape[1]} columns, which groups of {one.group} do not divide; choose another group")
    schemes = {_scheme(one) for one in packed.values()}
    if len(schemes) > 1 and not all(symmetric for _, _, symmetric in schemes):
        raise BadInput("transformers reads codes with zeros only where all linears have the same bits and groups; compress symmetrically")


def quantization(net: Transformer, schemes: Mapping[tuple[int, int, bool], list[str]]) -> dict[str, Any]:
    """`quantization_config`: one group of linears for every kind of codes; with one kind alone, all linears but those named."""
    every = [name for native in hf.tensors(net.cfg) if native.endswith(".weight") for name in _rows(net, native.removesuffix(".weight"))]
    held = {name for names in schemes.values() for name in names}
    linear = [name for name in every if name.endswith(("_proj", "lm_head"))] + (["lm_head"] if net.cfg.tied else [])
    groups = {}
    for i, ((bits, group, symmetric), names) in enumerate(schemes.items()):
        how = {"strategy": "group", "group_size": group} if group else {"strategy": WHOLE, "group_size": None}
        weights = {"num_bits": bits, "type": "int", "symmetric": symmetric, "dynamic": False, **how}
        targets = ["Linear"] if len(schemes) == 1 else names
        groups[f"group_{i}"] = {"targets": targets, "weights": weights, "input_activations": None, "output_activations": None}
    return {
        "quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed",
        "config_groups": groups, "ignore": [name for name in linear if name not in held],
    }  # fmt: skip


def _scheme(one: Packed) -> tuple[int, int, bool]:
    """Bits, columns of a group (0: the whole row) and whether there are no zeros."""
    return one.bits, 0 if one.group == one.codes_OI.shape[1] else one.group, one.zero_OG is None


def _rows(net: Transformer, native: str) -> dict[str, slice]:
    """The Hugging Face modules of a native linear, and which of its rows are theirs."""
    held = hf.tensors(net.cfg)[f"{native}.weight"]
    found, at = {}, 0
    for i, name in enumerate(held.names):
        stop = at + held.rows[i] if held.rows else None
        found[name.removesuffix(".weight")] = slice(at, stop)
        at = stop or 0
    return found


def _parts(one: Packed, rows: slice) -> dict[str, Tensor]:
    """The stored tensors of some rows; zeros are packed along the rows, as the format wants them."""
    codes, scale = one.codes_OI[rows], one.scale_OG[rows].to(torch.float16 if one.zero_OG is None else torch.float32)
    found = {"weight_packed": pack(codes, one.bits), "weight_scale": scale, "weight_shape": torch.tensor(codes.shape)}
    if one.zero_OG is not None:
        found["weight_zero_point"] = pack(one.zero_OG[rows].t(), one.bits).t()
    return {name: t.contiguous() for name, t in found.items()}


def _dense(net: Transformer, packed: Mapping[str, Packed], dtype: torch.dtype) -> dict[str, Tensor]:
    """Native tensors that are stored as they are."""
    held = {f"{name}.weight" for name in packed}
    state = net.state_dict()
    return {name: state[name].detach().cpu().to(dtype) for name in hf.tensors(net.cfg) if name not in held}


def _theirs(net: Transformer, native: str, t: Tensor) -> dict[str, Tensor]:
    """A native tensor under its Hugging Face names."""
    held = hf.tensors(net.cfg)[native]
    pieces = t.split(held.rows) if held.rows else (t,)
    return {name: piece.contiguous() for name, piece in zip(held.names, pieces, strict=True)}
