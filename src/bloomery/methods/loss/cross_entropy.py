from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from bloomery.num.cross_entropy import head_cross_entropy
from bloomery.seams import Batch, Rng


@dataclass(frozen=True)
class CrossEntropy:
    """Negative log-likelihood of the next token, averaged over the trained tokens of the whole batch.

    Source: standard practice.
    Differs: head and loss run chunk by chunk, so that the logits of all tokens never exist at once.
    Costs: logits of one chunk.
    """

    chunk: int = 1024  # tokens whose logits exist at once
    roles = ("net",)

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise ValueError(f"chunk must be at least 1, got {self.chunk}")

    def weigh(self, batch: Batch) -> dict[str, float]:
        """The sum of the tokens' weights."""
        return {"tokens": float(batch.weights.double().sum())}

    def terms(self, roles: Mapping[str, nn.Module], batch: Batch, seen: Mapping[str, Tensor], rng: Rng) -> dict[str, Tensor]:
        """The weighted sum of nats."""
        net = roles["net"]
        hidden_BTD = net(batch.inputs, batch.positions, batch.documents)
        hidden_ND = hidden_BTD.reshape(-1, hidden_BTD.shape[-1])
        nats = head_cross_entropy(net, hidden_ND, batch.targets.reshape(-1), batch.weights.reshape(-1), self.chunk)
        return {"tokens": nats}
