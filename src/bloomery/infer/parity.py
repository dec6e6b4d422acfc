"""How far a copy of a model is from it: measured token by token on the same text, whatever program computes the copy's logits.

Shapes: T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ROWS = 256  # tokens whose logits are compared at a time: in fp64, several times over, those of a long text in many words are too much

Logits = Callable[[Sequence[int]], Tensor]  # token ids -> (T, V); row t scores the token after token t


@dataclass(frozen=True)
class Parity:
    """Figures over all predicted tokens; nats are natural logarithms."""

    kl: float  # mean Kullback-Leibler divergence from the reference to the copy, nats per token
    worst: float  # its largest value at one token
    largest: float  # largest absolute difference of a logit
    agreement: float  # share of tokens at which both find the same token likeliest
    nats: float  # mean negative log-likelihood of the text under the copy
    reference_nats: float  # and under the reference
    tokens: int  # predictions compared


@torch.inference_mode()
def parity(reference: Logits, copy: Logits, sequences: Sequence[Sequence[int]], counted: Sequence[Sequence[float]] | None = None) -> Parity:
    """Both models on every sequence (two tokens at least, no longer than either's context); ValueError where there is none to compare.

    `counted` holds a number for each token: predictions of those with 0 are left out, such as the questions of conversations.
    """
    kl = worst = largest = agree = nats = reference_nats = 0.0
    tokens = 0
    for number, ids in enumerate(sequences):
        kept = torch.tensor([bool(one) for one in counted[number][1:]] if counted is not None else [True] * (len(ids) - 1))
        if not kept.any():
            continue
        whole = [logits(ids)[: len(ids) - 1][kept] for logits in (reference, copy)]
        targets = torch.as_tensor(list(ids[1:]), dtype=torch.int64)[kept][:, None]
        for p, q, wanted in zip(*(one.split(ROWS) for one in (*whole, targets)), strict=True):
            p, q = p.double(), q.double()
            largest = max(largest, float((p - q).abs().max()))
            agree += float((p.argmax(-1) == q.argmax(-1)).sum())
            p, q = p.log_softmax(-1), q.log_softmax(-1)
            each = (p.exp() * (p - q)).sum(-1)
            kl, worst = kl + float(each.sum()), max(worst, float(each.max()))
            nats, reference_nats = nats - float(q.gather(-1, wanted).sum()), reference_nats - float(p.gather(-1, wanted).sum())
        tokens += len(targets)
    if not tokens:
        raise ValueError("there is no sequence of two tokens to compare on")
    return Parity(kl / tokens, worst, largest, agree / tokens, nats / tokens, reference_nats / tokens, tokens)
