"""Sampling temperature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Temperature:
    """Divides the logits: below 1 sharpens the choice, above 1 flattens it, 0 leaves only the most likely token.

    Source: standard practice.
    Differs: 0 is allowed and means the limit, with the first of equal logits as `argmax` takes it.
    Costs: one pass over the logits.
    """

    value: float = 1.0  # what the logits are divided by; 0 is greedy
    reads = ("logits:net",)

    def __post_init__(self) -> None:
        if not 0 <= self.value < float("inf"):
            raise ValueError(f"value must be 0 or a positive number, got {self.value}")

    def filter(self, tokens_BT: Tensor, seen: Mapping[str, Tensor]) -> Tensor:
        """(B, V) logits."""
        logits_BV = seen["logits:net"]
        if self.value:
            return logits_BV / self.value
        best = logits_BV.argmax(-1, keepdim=True)
        return logits_BV.new_full(logits_BV.shape, float("-inf")).scatter_(-1, best, 0.0)
