"""Products of blocks in float8, through torchao: inputs, weights and gradients are rounded to 8 bits with one scale for each tensor.

Micikevicius et al. 2022, FP8 formats for deep learning, arXiv 2209.05433. Weights stay in bfloat16 with float32 masters, norms, scores and
the head are as they were; a linear whose sides are no multiples of 16 is left, since the processor has no product for it.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.train.device import where

SIDE = 16  # float8 products take sides that are multiples of it
LEAST = (8, 9)  # compute capability of the first processors that have them


def demand() -> None:
    """BadInput, one sentence, where the package or the processor is missing."""
    if find_spec("torchao") is None:
        raise BadInput("precision: float8 needs the package torchao: pip install 'bloomery[float8]', or say bfloat16")
    import torch

    if not torch.cuda.is_available() or torch.cuda.get_device_capability() < LEAST:
        raise BadInput(
            f"precision: float8 needs a GPU of compute capability {LEAST[0]}.{LEAST[1]} or more, and there is none; say bfloat16"
        )


def suits(unit: Any, name: str) -> bool:
    """Whether a linear is converted: one of the blocks, trained, of sides that float8 products take. A router chooses, and is small."""
    import torch

    inside = name.startswith("blocks.") and not name.endswith(".router")
    return (
        inside and type(unit) is torch.nn.Linear and unit.weight.requires_grad and not (unit.in_features % SIDE or unit.out_features % SIDE)
    )


def convert(net: Any, emulated: bool = False) -> list[str]:
    """Let the linears of the blocks multiply in float8, in place; returns their names. The parameters are the same objects.

    `emulated` computes the products in float32 from the rounded numbers, on any processor: for tests.
    """
    names = [name for name, unit in net.named_modules() if suits(unit, name)]
    if not names:
        raise BadInput(f"precision: no linear of this model has sides that are multiples of {SIDE}, which float8 needs; say bfloat16")
    if not emulated and (there := where(net)).type != "cuda":
        raise BadInput(f"precision: the model is on the {there.type}, and float8 products are made on a GPU; say bfloat16")
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training

    convert_to_float8_training(net, module_filter_fn=lambda unit, name: name in set(names), config=Float8LinearConfig(emulate=emulated))
    return names


def restore(net: Any) -> None:
    """Plain linears again, with the same parameters."""
    import torch

    for name, unit in list(net.named_modules()):
        if type(unit).__name__ == "Float8Linear":
            with torch.device("meta"):
                plain = torch.nn.Linear(unit.in_features, unit.out_features, bias=unit.bias is not None)
            plain.weight, plain.bias = unit.weight, unit.bias
            net.set_submodule(name, plain.train(unit.training))
