"""Nucleus sampling."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

FIRST = 128  # tokens looked at before the whole vocabulary is sorted


@dataclass(frozen=True)
class TopP:
    """Leaves the smallest set of most likely tokens whose probability reaches p.

    Source: Holtzman et al. 2020, arXiv 1904.09751.
    Differs: tokens as likely as the last one kept are kept too.
    Costs: a partial sort; a full one where 128 tokens do not reach p.
    """

    p: float = 0.9  # probability that the kept tokens reach; 1 keeps all
    reads = ("logits:net",)

    def __post_init__(self) -> None:
        if not 0 < self.p <= 1:
            raise ValueError(f"p must be above 0 and at most 1, got {self.p}")

    def filter(self, tokens_BT: Tensor, seen: Mapping[str, Tensor]) -> Tensor:
        """(B, V) logits, minus infinity where a token is dropped."""
        logits_BV = seen["logits:net"]
        if self.p == 1:
            return logits_BV
        total = logits_BV.logsumexp(-1, keepdim=True)
        vocab = logits_BV.shape[-1]
        for count in (min(FIRST, vocab), vocab):
            best = logits_BV.topk(count, dim=-1).values
            reached = (best - total).exp().cumsum(-1)  # by each token together with those above it
            if count == vocab or bool((reached[:, -1] >= self.p).all()):
                break
        last = (reached < self.p).sum(-1, keepdim=True).clamp_(max=count - 1)
        return logits_BV.masked_fill(logits_BV < best.gather(-1, last), float("-inf"))
