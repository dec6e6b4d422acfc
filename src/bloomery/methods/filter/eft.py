"""A large model that answers as if it had been tuned as a small one was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

OUT = float("-inf")  # the logit of a token that is ruled out


@dataclass(frozen=True)
class EFT:
    """Adds to a model's log-probabilities what tuning changed in those of another: log p_net + scale (log p_expert - log p_base).

    P018 Mitchell et al. 2023, arXiv 2310.12962
    Differs: logits stand for log-probabilities, which are the same up to a number for each row that the softmax takes out again; the
    large model is called net, the tuned small one expert and the one that it was tuned from base; no speculative decoding. A token that
    the net or, at a scale above 0, the expert rules out stays out; of one that the base rules out, or the expert at another scale, the
    change is not known and the net's logit stands.
    Costs: a forward pass of three models for each token, and their caches.
    """

    scale: float = 1.0  # how much of the change counts; 0 is the model alone
    reads = ("logits:net", "logits:expert", "logits:base")

    def __post_init__(self) -> None:
        if not abs(self.scale) < float("inf"):
            raise ValueError(f"scale must be a number, got {self.scale}")

    def filter(self, tokens_BT: Tensor, seen: Mapping[str, Tensor]) -> Tensor:
        """(B, V) logits; at scale 1 and with a net equal to the base, the expert's to the last bit."""
        net_BV, expert_BV, base_BV = (seen[name] for name in self.reads)
        unknown_BV = base_BV == OUT
        if self.scale <= 0:
            unknown_BV |= expert_BV == OUT
        expert_BV, base_BV = (one_BV.masked_fill(unknown_BV, 0.0) for one_BV in (expert_BV, base_BV))
        return (net_BV - base_BV) + (1 - self.scale) * base_BV + self.scale * expert_BV
