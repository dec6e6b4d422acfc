"""A model held more closely to its prompt than it would keep by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

OUT = float("-inf")  # the logit of a token that is ruled out


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance: what the prompt changes counts `scale` times, l_without + scale (l_net - l_without).

    P377 Kornblith et al. 2023, arXiv 2307.16686
    Differs: for text, where the condition is a prompt. Without it are the logits of the same model after a second prompt, which the decoder
    and the server take, or of another model under the role `without`, the paper's guidance by a language model; no training with the
    condition left out. A token that the net rules out stays out; of one that the second rules out the net's logit stands.
    Costs: two forward passes for each token and a second cache; the second prompt is read as well.
    """

    scale: float = 1.5  # how much the prompt counts; 1 is the model alone, 0 the second prompt alone
    reads = ("logits:net", "logits:without")

    def __post_init__(self) -> None:
        if not abs(self.scale) < float("inf"):
            raise ValueError(f"scale must be a number, got {self.scale}")

    def filter(self, tokens_BT: Tensor, seen: Mapping[str, Tensor]) -> Tensor:
        """(B, V) logits; at scale 1 the net's to the last bit."""
        net_BV, without_BV = (seen[name] for name in self.reads)
        changed_BV = net_BV + (self.scale - 1) * (net_BV - without_BV)
        return changed_BV.where((net_BV != OUT) & (without_BV != OUT), net_BV)
