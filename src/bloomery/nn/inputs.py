"""What a linear may round its inputs to before it multiplies: eight bits for each number, with a scale for each token.

The numbers stay in their type and the product is made in it too, so this shows what such arithmetic costs in quality; it saves no time.
"""

from __future__ import annotations

import torch
from torch import Tensor

HIGHEST = {"int8": 127.0, "fp8": 448.0}  # the largest number of each kind
INPUTS = tuple(HIGHEST)


def rounded(x: Tensor, kind: str) -> Tensor:
    """`x` (..., I) with every token's numbers on the grid of `kind`: whole numbers for "int8", e4m3 (Micikevicius et al. 2022, arXiv
    2209.05433) for "fp8", times the token's largest magnitude over the largest of the kind. A token of zeros stays one."""
    wide = x.float()
    scale = wide.abs().amax(-1, keepdim=True) / HIGHEST[kind]
    steps = wide / torch.where(scale > 0, scale, 1)
    steps = steps.round() if kind == "int8" else steps.to(torch.float8_e4m3fn).float()
    return (steps * scale).to(x.dtype)
