"""Top-k sampling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TopK:
    """Leaves the k most likely tokens of each row.

    Source: Fan et al. 2018, arXiv 1805.04833.
    Differs: tokens as likely as the last one kept are kept too.
    Costs: one partial sort of the logits.
    """

    k: int = 50  # tokens kept
    reads = ("logits:net",)

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k must be at least 1, got {self.k}")

    def filter(self, tokens_BT: Tensor, seen: Mapping[str, Tensor]) -> Tensor:
        """(B, V) logits, minus infinity where a token is dropped."""
        logits_BV = seen["logits:net"]
        if self.k >= logits_BV.shape[-1]:
            return logits_BV
        least = logits_BV.topk(self.k, dim=-1, sorted=False).values.amin(-1, keepdim=True)
        return logits_BV.masked_fill(logits_BV < least, float("-inf"))
