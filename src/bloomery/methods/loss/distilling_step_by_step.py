from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from bloomery.num.cross_entropy import head_cross_entropy
from bloomery.seams import Batch, Rng


@dataclass(frozen=True)
class DistillingStepByStep:
    """The mean loss of answers and the mean loss of rationales, each over its own tokens, in a fixed proportion.

    P017 Hsieh et al. 2023, arXiv 2305.02301
    Differs: tokens of rationales are known by weights below 1, which the view `rationale` gives them; means are over all tokens of a step
    and not over those of each sequence. Where the rationales come from is the data's affair: the paper asks a large model for them.
    Costs: nothing beside the tokens of the rationales.
    """

    share: float = 0.5  # of the loss that is the answers'
    chunk: int = 1024  # tokens whose logits exist at once
    roles = ("net",)

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or self.chunk < 1:
            raise ValueError(f"share must be between 0 and 1 and chunk at least 1, got {self.share} and {self.chunk}")

    def weigh(self, batch: Batch) -> dict[str, float]:
        """The sums of the weights of answers and of rationales."""
        return {name: float(weights.double().sum()) for name, weights in tasks(batch).items()}

    def terms(self, roles: Mapping[str, nn.Module], batch: Batch, seen: Mapping[str, Tensor], rng: Rng) -> dict[str, Tensor]:
        """The weighted sums of nats of each task, times its share."""
        net = roles["net"]
        hidden_BTD = net(batch.inputs, batch.positions, batch.documents)
        hidden_ND, targets_N = hidden_BTD.reshape(-1, hidden_BTD.shape[-1]), batch.targets.reshape(-1)
        shares = {"answers": self.share, "rationales": 1 - self.share}
        return {
            name: shares[name] * head_cross_entropy(net, hidden_ND, targets_N, weights.reshape(-1), self.chunk)
            for name, weights in tasks(batch).items()
        }


def tasks(batch: Batch) -> dict[str, Tensor]:
    """The weights of each task, 0 where a token is of the other."""
    answers = batch.weights >= 1
    return {"answers": batch.weights * answers, "rationales": batch.weights * ~answers}
