"""Learning from what another model finds likely."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from bloomery.core.errors import BadInput
from bloomery.num.cross_entropy import head_cross_entropy
from bloomery.seams import Batch, Rng

# Shapes: N tokens that are trained on, C of a chunk, D width, V vocabulary, K tokens that the teacher finds likeliest.


@dataclass(frozen=True)
class Distill:
    """Predict the next token as a teacher does: its likeliest tokens one by one, and all others together.

    Hinton et al. 2015, arXiv 1503.02531
    Differs: of the teacher's distribution the `top` likeliest tokens are kept and the rest is one outcome, so that a teacher of any
    vocabulary costs `top` numbers a token; the ordinary loss of the next token is added and not mixed in. With `cache` log-probabilities
    are those that float16 holds.
    Costs: a forward pass of the teacher, with `cache` once for each row of each layout of the data, which takes `top` x 4 or 6 bytes a
    token on disk; logits of one chunk of both models, computed again in the backward pass.
    """

    top: int = 64  # tokens that are kept of the teacher's distribution; 0 = all
    temperature: float = 1.0  # logits of both are divided by it, and the divergence is multiplied by its square
    ordinary: float = 0.0  # weight of the cross-entropy of the next token beside the divergence
    chunk: int = 512  # tokens whose logits exist at once
    cache: bool = False  # what the teacher says of a row is kept in the store, for this run, its resumes and others on the same rows
    roles = ("net", "teacher")
    compares_tokens = True

    def __post_init__(self) -> None:
        if self.top < 0 or self.chunk < 1 or self.temperature <= 0 or self.ordinary < 0:
            raise ValueError(
                f"top and ordinary must not be negative, chunk at least 1 and temperature above 0, got {self.top}, {self.ordinary}, "
                f"{self.chunk} and {self.temperature}"
            )

    def weigh(self, batch: Batch) -> dict[str, float]:
        """The sum of the tokens' weights, for both."""
        total = float(batch.weights.double().sum())
        return {"teacher": total, "tokens": total} if self.ordinary else {"teacher": total}

    def terms(self, roles: Mapping[str, nn.Module], batch: Batch, seen: Mapping[str, Tensor], rng: Rng) -> dict[str, Tensor]:
        """Weighted sums of the divergence from the teacher and, where asked for, of the ordinary nats.

        BadInput for a teacher of another vocabulary.
        """
        net, teacher = roles["net"], roles["teacher"]
        if len(teacher.head_weight) != len(net.head_weight):
            sizes = f"{len(teacher.head_weight)} tokens and the model {len(net.head_weight)}"
            raise BadInput(f"loss: distill compares token with token, and the teacher has {sizes}; take a teacher of the same tokenizer")
        hidden_BTD = net(batch.inputs, batch.positions, batch.documents)
        weights_N, hidden_ND = batch.weights.reshape(-1), hidden_BTD.reshape(-1, hidden_BTD.shape[-1])
        used, total = weights_N > 0, hidden_BTD.sum() * 0.0
        parts = zip(*(t[used].split(self.chunk) for t in (hidden_ND, weights_N)), self.said(teacher, batch, used), strict=True)
        for h_CD, weights_C, (log_CK, places_CK) in parts:
            nats_C = checkpoint(self.divergence, net, h_CD, log_CK, places_CK, use_reentrant=False)
            total = total + (nats_C * weights_C).sum()
        found = {"teacher": total * self.temperature**2}
        if self.ordinary:
            nats = head_cross_entropy(net, hidden_ND, batch.targets.reshape(-1), weights_N, self.chunk)
            found["tokens"] = self.ordinary * nats
        return found

    @torch.no_grad()
    def said(self, teacher: nn.Module, batch: Batch, used_N: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Log-probabilities and ids (C, K) of the teacher's likeliest tokens, chunk by chunk of the trained tokens."""
        if hasattr(teacher, "likeliest"):
            yield from zip(*(t.split(self.chunk) for t in teacher.likeliest(batch)), strict=True)
            return
        wanted_BTD = teacher(batch.inputs, batch.positions, batch.documents)
        for w_CD in wanted_BTD.reshape(-1, wanted_BTD.shape[-1])[used_N].split(self.chunk):
            yield likeliest(teacher.logits(w_CD), self.top, self.temperature)

    def divergence(self, net: nn.Module, h_CD: Tensor, log_CK: Tensor, places_CK: Tensor) -> Tensor:
        """KL from the teacher to the model of each token, (C)."""
        own_CV = F.log_softmax(net.logits(h_CD).float() / self.temperature, -1)
        return apart(log_CK, own_CV.gather(-1, places_CK), whole=log_CK.shape[-1] == own_CV.shape[-1])


def likeliest(logits_CV: Tensor, top: int, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probabilities (C, K) and ids of the likeliest tokens, fp32."""
    log_CV = F.log_softmax(logits_CV.float() / temperature, -1)
    return log_CV.topk(min(top or log_CV.shape[-1], log_CV.shape[-1]), dim=-1)


def apart(log_CK: Tensor, own_CK: Tensor, whole: bool) -> Tensor:
    """KL of distributions over K tokens and, unless they are the whole vocabulary, of one outcome more: any other token."""
    nats_C = (log_CK.exp() * (log_CK - own_CK)).sum(-1)
    if whole:
        return nats_C
    rest_C, own_rest_C = (torch.log1p(-t.exp().sum(-1).clamp(max=1 - 1e-6)) for t in (log_CK, own_CK))
    return nats_C + rest_C.exp() * (rest_C - own_rest_C)
