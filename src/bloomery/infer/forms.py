"""The forms in which linears are kept for decoding, by name; infer/weights.py makes them."""

from __future__ import annotations

from typing import Literal, get_args

from bloomery.core.errors import BadInput

Weights = Literal["bf16", "int8", "w8a8", "int4", "w4a8", "stored"]


def known(weights: str) -> None:
    """BadInput for a form that there is not."""
    if weights not in get_args(Weights):
        raise BadInput(f"weights must be one of {', '.join(get_args(Weights))}, got {weights!r}")
