"""A compressed model whose linears hold torchao's tensors: in memory, and as a Hugging Face folder that transformers loads.

Symmetric codes of 8 bits become an Int8Tensor, all others an IntxUnpackedToInt8Tensor; either keeps codes, scales and zeros as they
are, a byte for each code whatever its bits, and computes with the fp32 numbers that they stand for. Any nn.Linear runs with such a weight.
Shapes: O outputs, I inputs, G groups of inputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bloomery.nn import hf_codes
from bloomery.nn.model import Transformer
from bloomery.nn.packed import Packed

KIND = "torchao"


def tensor(one: Packed, rows: slice = slice(None)) -> Tensor:
    """Some rows of a linear as one of torchao's tensors, which counts as fp32."""
    from torchao.quantization import Int8Tensor, IntxUnpackedToInt8Tensor

    codes_OI, scale_OG = one.codes_OI[rows].contiguous(), one.scale_OG[rows].float().contiguous()
    if one.bits == 8 and one.zero_OG is None:
        return Int8Tensor(codes_OI, scale_OG, [1, one.group], torch.float32)
    zero_OG = torch.zeros_like(scale_OG, dtype=torch.int8) if one.zero_OG is None else one.zero_OG[rows].contiguous()
    block = (1, one.group)
    return IntxUnpackedToInt8Tensor(codes_OI, scale_OG, zero_OG, getattr(torch, f"int{one.bits}"), block, torch.float32, None)


def place(net: Transformer, packed: Mapping[str, Packed]) -> Transformer:
    """The same net, in which the packed linears have torchao's tensors as weights; BadInput for what these cannot say."""
    refuse(net, packed)
    for name, one in packed.items():
        old = net.get_submodule(name)
        unit = nn.Linear(old.in_features, old.out_features, old.bias is not None, device="meta")
        unit.weight, unit.bias = nn.Parameter(tensor(one), requires_grad=False), old.bias
        net.set_submodule(name, unit)
    return net


def refuse(net: Transformer, packed: Mapping[str, Packed]) -> None:
    """BadInput naming why a model cannot be held so."""
    hf_codes.refuse(net, packed, KIND)


def write(net: Transformer, packed: Mapping[str, Packed], words: Path, out: Path, dtype: torch.dtype = torch.float32) -> None:
    """The folder, its dense weights in `dtype`, its tokenizer from `words`; no code is rounded again. BadInput for what it cannot say."""
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict

    refuse(net, packed)
    parts, told = (lambda one, rows: {"weight": tensor(one, rows)}), quantization(net, packed)
    hf_codes.write(net, packed, parts, told, words, out, dtype, flatten_tensor_state_dict)


def quantization(net: Transformer, packed: Mapping[str, Packed]) -> dict[str, Any]:
    """`quantization_config`. What each tensor is stands in the file of weights; here, what most are and which linears hold no codes."""
    from torchao.core.config import config_to_dict
    from torchao.quantization import IntxWeightOnlyConfig, PerAxis, PerGroup
    from torchao.quantization.quant_primitives import MappingType

    kinds = Counter((one.bits, one.group, one.shape[1] == one.group, one.zero_OG is None) for one in packed.values())
    bits, group, whole, symmetric = kinds.most_common(1)[0][0]
    usual = IntxWeightOnlyConfig(
        weight_dtype=getattr(torch, f"int{bits}"), granularity=PerAxis(0) if whole else PerGroup(group),
        mapping_type=MappingType.SYMMETRIC if symmetric else MappingType.ASYMMETRIC,
    )  # fmt: skip
    return {
        "quant_method": KIND, "quant_type": {"default": config_to_dict(usual)}, "include_input_output_embeddings": False,
        "modules_to_not_convert": hf_codes.dense_modules(net, packed), "untie_embedding_weights": False,
    }  # fmt: skip
