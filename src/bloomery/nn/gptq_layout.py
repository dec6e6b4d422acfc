"""A compressed model as a Hugging Face folder in the layout of GPTQ, which vLLM, SGLang and gptqmodel run, and the way back.

The layout as gptqmodel writes it down (github.com/ModelCloud/GPTQModel/wiki/Packing-Formats-and-Compatibility). Of each packed linear
NAME, codes being unsigned, several to an int32 and the lowest bits first:

    NAME.qweight (I x bits / 32, O)  int32, codes along the inputs         NAME.scales (G, O)  float16
    NAME.qzeros  (G, O x bits / 32)  int32, zeros along the outputs        NAME.g_idx  (I)     int32, the group of each input

A weight is scale x (code - zero). Format "gptq" stores zeros less one, "gptq_v2" as they are; only the second can say zero 0.
Shapes: O outputs, I inputs, G groups of inputs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bloomery.core.errors import BadInput
from bloomery.nn import hf_codes
from bloomery.nn.model import Transformer
from bloomery.nn.packed import Packed, pack

KIND = "gptq"
FIRST, SECOND = "gptq", "gptq_v2"  # the values of `checkpoint_format`
LESS = {FIRST: 1, SECOND: 0}  # what stored zeros lack
PARTS = ("qweight", "qzeros", "scales", "g_idx")
BITS = (2, 3, 4, 8)  # that have kernels; three-bit codes run on from one int32 into the next


# ---- out ----------------------------------------------------------------------------------------------------------------


def write(net: Transformer, packed: Mapping[str, Packed], words: Path, out: Path, dtype: torch.dtype = torch.float32) -> None:
    """The folder, its dense weights in `dtype`, its tokenizer from `words`; no code is rounded again. BadInput for what it cannot say."""
    refuse(net, packed)
    kind = version(packed)
    hf_codes.write(net, packed, lambda one, rows: parts(one, rows, kind), quantization(net, packed), words, out, dtype)


def refuse(net: Transformer, packed: Mapping[str, Packed]) -> None:
    """BadInput naming why a model cannot be written so."""
    hf_codes.refuse(net, packed, KIND)
    for native, one in packed.items():
        if one.bits not in BITS:
            raise BadInput(f"{native} has {one.bits} bits, and {KIND} has {', '.join(map(str, BITS))}; export as compressed-tensors")
        sides = {"columns": one.shape[1], **{f"rows of {name}": len(range(one.shape[0])[part]) for name, part in _rows(net, native)}}
        if odd := next((what for what, size in sides.items() if size * one.bits % 32), None):
            raise BadInput(f"{native}: {sides[odd]} {odd} of {one.bits} bits fill no int32 exactly; export as compressed-tensors")


def _rows(net: Transformer, native: str) -> list[tuple[str, slice]]:
    return list(hf_codes.rows(net, native).items())


def version(packed: Mapping[str, Packed]) -> str:
    """The format that can say all zeros: the first wherever it can, since it is the one that more programs read."""
    return FIRST if all(one.zero_OG is None for one in packed.values()) else SECOND


def parts(one: Packed, rows: slice, kind: str) -> dict[str, Tensor]:
    """The stored tensors of some rows."""
    codes_OI, scale_OG = one.codes_OI[rows], one.scale_OG[rows]
    zero_OG = torch.zeros_like(scale_OG, dtype=torch.int8) if one.zero_OG is None else one.zero_OG[rows]
    return {
        "qweight": pack(codes_OI, one.bits).t(), "qzeros": pack(zero_OG.t() - LESS[kind], one.bits), "scales": scale_OG.t(),
        "g_idx": torch.arange(codes_OI.shape[1], dtype=torch.int32) // one.group,
    }  # fmt: skip


def quantization(net: Transformer, packed: Mapping[str, Packed]) -> dict[str, Any]:
    """`quantization_config`: what most linears have; others, and those without codes, are named under `dynamic`."""
    schemes = {name: _scheme(one) for name, one in hf_codes.modules(net, packed).items()}
    usual = Counter(tuple(one.items()) for one in schemes.values()).most_common(1)[0][0]
    others = {f"+:^{re.escape(name)}$": one for name, one in schemes.items() if tuple(one.items()) != usual}
    left = {f"-:^{re.escape(name)}$": {} for name in hf_codes.dense_modules(net, packed) if name != "lm_head"}
    dynamic = {"dynamic": others | left} if others or left else {}
    return {
        "quant_method": KIND, "checkpoint_format": version(packed), "pack_dtype": "int32", **dict(usual), "desc_act": False,
        "lm_head": False, "meta": {"quantizer": ["bloomery"]}, **dynamic,
    }  # fmt: skip


def _scheme(one: Packed) -> dict[str, Any]:
    return {"bits": one.bits, "group_size": -1 if one.group == one.shape[1] else one.group, "sym": one.zero_OG is None}


# ---- in -----------------------------------------------------------------------------------------------------------------


def dense(weights: dict[str, Tensor], told: Mapping[str, Any], where: Path) -> dict[str, Tensor]:
    """The tensors of a folder with NAME.weight (float32) instead of the parts of each packed linear; BadInput where they do not fit.

    `told` is `quantization_config`. Numbers are unpacked in numpy by the layout above, apart from the code that writes it.
    """
    kind = told.get("checkpoint_format") or told.get("format") or FIRST
    if kind not in LESS:
        raise BadInput(f"{where}: checkpoint_format {kind!r} is not read, only {FIRST} and {SECOND}; take the model that it was made from")
    names = [name.removesuffix(".qweight") for name in weights if name.endswith(".qweight")]
    if not names:
        raise BadInput(f"{where}: config.json says {KIND}, and no tensor is a .qweight; download the folder again")
    found = {name: t for name, t in weights.items() if name.rpartition(".")[2] not in PARTS}
    for name in names:
        held = {part: weights.get(f"{name}.{part}") for part in PARTS}
        found[f"{name}.weight"] = torch.from_numpy(_weight(held, kind, told.get("sym") is not False, f"{where}: {name}"))
    return found


def _weight(held: Mapping[str, Tensor | None], kind: str, symmetric: bool, where: str) -> np.ndarray:
    """The matrix (O, I) in float32 that four tensors stand for; the bits follow from their shapes."""
    if lost := next((part for part, t in held.items() if t is None and part != "g_idx"), None):
        raise BadInput(f"{where} has no {lost}; download the folder again")
    qweight, qzeros = (held[part].numpy().view(np.uint32) for part in ("qweight", "qzeros"))
    scale_GO = held["scales"].float().numpy()
    groups, outputs = scale_GO.shape
    bits, left = divmod(32 * qzeros.shape[1], outputs)
    if left or bits not in BITS or 32 * len(qweight) % bits or qzeros.shape[0] != groups or qweight.shape[1] != outputs:
        shapes = ", ".join(f"{part} {tuple(t.shape)}" for part, t in held.items() if t is not None)
        raise BadInput(f"{where} has shapes that do not fit together ({shapes}); download the folder again")
    codes_IO, zeros_GO = stream(qweight.T, bits).T, stream(qzeros, bits)
    inputs, mask = len(codes_IO), (1 << bits) - 1
    # some folders say "gptq" and hold the zeros of "gptq_v2": with symmetric codes these are the middle throughout
    less = 0 if symmetric and (zeros_GO == 1 << (bits - 1)).all() else LESS[kind]
    group_I = np.arange(inputs) // -(-inputs // groups) if held["g_idx"] is None else held["g_idx"].numpy()
    if group_I.shape != (inputs,) or group_I.min() < 0 or group_I.max() >= groups:
        raise BadInput(f"{where} names groups of inputs that it has no scales of; download the folder again")
    steps_IO = codes_IO.astype(np.float32) - ((zeros_GO + less) & mask).astype(np.float32)[group_I]
    return np.ascontiguousarray((steps_IO * scale_GO[group_I]).T)


def stream(words: np.ndarray, bits: int) -> np.ndarray:
    """Rows of uint32 as rows of codes: each row is one stream of bits, lowest first."""
    each = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=1, bitorder="little")
    return each.reshape(len(words), -1, bits).astype(np.int32) @ (1 << np.arange(bits, dtype=np.int32))
