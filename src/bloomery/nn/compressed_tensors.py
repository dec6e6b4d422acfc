"""A compressed model as a Hugging Face folder in the "pack-quantized" format of compressed-tensors, which transformers and vLLM read.

Of each packed linear NAME the folder holds NAME.weight_packed (int32, codes as they are, none is rounded again), NAME.weight_scale,
NAME.weight_shape and, where there are zeros, NAME.weight_zero_point. Shapes: O outputs, I inputs, G groups of inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bloomery.core.errors import BadInput
from bloomery.nn import hf_codes
from bloomery.nn.model import Transformer
from bloomery.nn.packed import Packed, pack

KIND = "compressed-tensors"
WHOLE = "channel"  # one scale for a row


def write(net: Transformer, packed: Mapping[str, Packed], words: Path, out: Path, dtype: torch.dtype = torch.float32) -> None:
    """The folder, its dense weights in `dtype`, its tokenizer from `words`. BadInput for what the format cannot say.

    Scales stay fp16. Where there are zeros they are fp32: transformers opens such folders only with `dequantize=True`, which computes
    in the type of the scales, so that fp16 would round every weight.
    """
    refuse(net, packed)
    hf_codes.write(net, packed, _parts, quantization(net, packed), words, out, dtype)


def refuse(net: Transformer, packed: Mapping[str, Packed]) -> None:
    """BadInput naming why a model cannot be written so."""
    hf_codes.refuse(net, packed, KIND)
    schemes = {_scheme(one) for one in packed.values()}
    if len(schemes) > 1 and not all(symmetric for _, _, symmetric in schemes):
        raise BadInput("transformers reads codes with zeros only where all linears have the same bits and groups; compress symmetrically")


def quantization(net: Transformer, packed: Mapping[str, Packed]) -> dict[str, Any]:
    """`quantization_config`: one group of linears for every kind of codes; with one kind alone, all linears but those named."""
    schemes: dict[tuple[int, int, bool], list[str]] = {}
    for name, one in hf_codes.modules(net, packed).items():
        schemes.setdefault(_scheme(one), []).append(name)
    groups = {}
    for i, ((bits, group, symmetric), names) in enumerate(schemes.items()):
        how = {"strategy": "group", "group_size": group} if group else {"strategy": WHOLE, "group_size": None}
        weights = {"num_bits": bits, "type": "int", "symmetric": symmetric, "dynamic": False, **how}
        targets = ["Linear"] if len(schemes) == 1 else names
        groups[f"group_{i}"] = {"targets": targets, "weights": weights, "input_activations": None, "output_activations": None}
    return {
        "quant_method": KIND, "format": "pack-quantized", "quantization_status": "compressed",
        "config_groups": groups, "ignore": hf_codes.dense_modules(net, packed),
    }  # fmt: skip


def _scheme(one: Packed) -> tuple[int, int, bool]:
    """Bits, columns of a group (0: the whole row) and whether there are no zeros."""
    return one.bits, 0 if one.group == one.codes_OI.shape[1] else one.group, one.zero_OG is None


def _parts(one: Packed, rows: slice) -> dict[str, Tensor]:
    """The stored tensors of some rows; zeros are packed along the rows, as the format wants them."""
    codes, scale = one.codes_OI[rows], one.scale_OG[rows].to(torch.float16 if one.zero_OG is None else torch.float32)
    found = {"weight_packed": pack(codes, one.bits), "weight_scale": scale, "weight_shape": torch.tensor(codes.shape)}
    if one.zero_OG is not None:
        found["weight_zero_point"] = pack(one.zero_OG[rows].t(), one.bits).t()
    return found
