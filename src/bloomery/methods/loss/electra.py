from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bloomery.core.errors import BadInput
from bloomery.core.rng import torch_rng
from bloomery.nn.empty import emptied
from bloomery.nn.model import Transformer
from bloomery.num.cross_entropy import linear_cross_entropy
from bloomery.seams import Batch, Rng

# Shapes: B rows of a micro-batch, A rows of the step, T tokens, N hidden places, D width, d width of the generator, V vocabulary.

PIECE = 8192  # tokens that the generator reads at once when it only looks


@dataclass(frozen=True)
class Electra:
    """The model tells, at every token, whether a small generator has replaced it; the generator learns to name what was hidden.

    P152 Clark et al. 2020, ELECTRA, arXiv 2003.10555
    Differs: the discriminator's head is one linear layer; every place that the view chose gets a sample, also where it kept the token;
    the generator's projection to the embedding has no activation and no norm of its own.
    Costs: the generator's training, and one more forward pass of it; wants the view `masked` and a model that is not causal.
    """

    size: float = 0.25  # the generator's share of width, heads and feed-forward width; it has as many layers
    weight: float = 50.0  # of the discriminator's loss
    over: Literal["all", "masked"] = "all"  # tokens that the discriminator is asked about: all, or those that the view chose
    tied: bool = True  # the generator reads and writes through the model's embedding
    roles = ("net",)

    def __post_init__(self) -> None:
        if not 0 < self.size <= 1:
            raise ValueError(f"size must be above 0 and at most 1, got {self.size}")
        if self.weight < 0:
            raise ValueError(f"weight must not be negative, got {self.weight}")

    def parts(self, net: nn.Module, rng: Rng) -> dict[str, nn.Module]:
        """ "generator": a smaller Transformer; tied, it takes embedded tokens and its `logits` are vectors (D). "head": one logit."""
        cfg = net.cfg
        heads = max(1, round(cfg.heads * self.size))
        each = max(2, 2 * round(cfg.width * self.size / heads / 2))
        ffn = max(1, round(cfg.ffn * self.size))
        small = replace(cfg, width=heads * each, heads=heads, kv_heads=heads, ffn=ffn, head_width=each, tied=not self.tied, modules=())
        generator = Transformer(replace(small, vocab=1) if self.tied else small, rng.child("generator"))
        if self.tied:
            generator.embed = linear(cfg.width, small.width, rng.child("into"), cfg.width**-0.5)
            generator.head = linear(small.width, cfg.width, rng.child("out"), small.width**-0.5)
        return {"generator": generator, "head": linear(cfg.width, 1, rng.child("head"), 0.02, bias=True)}

    def weigh(self, batch: Batch) -> dict[str, float]:
        """The weights of the hidden places, and how many tokens the discriminator is asked about."""
        return {"generator": float(batch.weights.double().sum()), "discriminator": float(self.asked(batch).sum())}

    def asked(self, batch: Batch) -> Tensor:
        """Where the discriminator is asked, bool (B, T): padding never."""
        real = batch.documents >= 0
        return real if self.over == "all" else real & (batch.weights > 0)

    @torch.no_grad()
    def look(self, roles: Mapping[str, nn.Module], batch: Batch, rng: Rng) -> dict[str, Tensor]:
        """The text that the discriminator reads, drawn once for the whole step: {"inputs", "weights", "corrupted"}, each (A, T).

        BadInput for a view whose targets do not stand at the places of their tokens.
        """
        quiet = (batch.weights == 0) & (batch.documents >= 0)
        if bool((batch.inputs != batch.targets)[quiet].any()):
            raise BadInput("loss: electra needs the tokens themselves as targets; say `view: masked`")
        draw = torch_rng(rng, batch.inputs.device.type)
        corrupted = batch.targets.clone()
        rows = max(1, PIECE // batch.inputs.shape[1])
        for at in range(0, len(corrupted), rows):
            part = Batch(**{name: column[at : at + rows] for name, column in vars(batch).items()})
            chosen = part.weights > 0
            hidden_ND, table_VD = self.generated(roles, part, chosen)
            if len(hidden_ND):
                shares_NV = torch.softmax((hidden_ND @ table_VD.T).float(), -1)
                corrupted[at : at + rows][chosen] = torch.multinomial(shares_NV, 1, generator=draw).squeeze(-1)
        return {"inputs": batch.inputs, "weights": batch.weights, "corrupted": corrupted}

    def generated(self, roles: Mapping[str, nn.Module], batch: Batch, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """What makes the generator's logits at the chosen places: vectors (N, D or d) and the table (V, D or d)."""
        generator, net = roles["generator"], roles["net"]
        tokens: Any = net.embed(batch.inputs) if self.tied else batch.inputs
        hidden = generator(tokens, batch.positions, batch.documents)[chosen]
        return (generator.logits(hidden), net.embed.weight) if self.tied else (hidden, generator.head_weight)

    def terms(self, roles: Mapping[str, nn.Module], batch: Batch, seen: Mapping[str, Tensor], rng: Rng) -> dict[str, Tensor]:
        """Nats of the hidden tokens under the generator, and `weight` x nats of "replaced or not"; a sample that happens to be the
        token itself counts as not replaced, and no gradient goes through the drawing. ValueError for rows that were not looked at."""
        seen = seen or self.look(roles, batch, rng)
        same = (batch.inputs[:, None] == seen["inputs"]).all(-1) & (batch.weights[:, None] == seen["weights"]).all(-1)
        if not bool(same.any(1).all()):
            raise ValueError("electra was given rows that were not in the step it looked at")
        corrupted = seen["corrupted"][same.int().argmax(1)]
        chosen = batch.weights > 0
        hidden_ND, table_VD = self.generated(roles, batch, chosen)
        named = linear_cross_entropy(hidden_ND, table_VD, batch.targets[chosen], batch.weights[chosen])
        hidden_BTD = roles["net"](corrupted, batch.positions, batch.documents)
        asked = self.asked(batch)
        logits = roles["head"](hidden_BTD[asked]).squeeze(-1).float()
        replaced = (corrupted != batch.targets)[asked].float()
        told = F.binary_cross_entropy_with_logits(logits, replaced, reduction="sum")
        return {"generator": named, "discriminator": self.weight * told}


def linear(width: int, out: int, rng: Rng, deviation: float, bias: bool = False) -> nn.Linear:
    """A linear layer with normal weights drawn from `rng` and no bias to begin with."""
    made = emptied(nn.Linear(width, out, bias=bias, device="meta"))
    with torch.no_grad():
        made.weight.normal_(0.0, deviation, generator=torch_rng(rng))
        if bias:
            made.bias.zero_()
    return made
