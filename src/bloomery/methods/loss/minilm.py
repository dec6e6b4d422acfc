from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bloomery.core.errors import BadInput
from bloomery.nn.attention import visible
from bloomery.nn.rotary import rotate
from bloomery.num.cross_entropy import head_cross_entropy
from bloomery.seams import Batch, Rng

# Shapes: B rows, T tokens, D width, H heads whose relations are compared, K key heads, E width of a head.

HIDDEN = -1e30  # score of a key that may not be seen: its share is 0, and 0 x (HIDDEN - HIDDEN) stays 0


@dataclass(frozen=True)
class MiniLm:
    """The last layer attends as a teacher's does, and its values resemble one another as the teacher's do, whatever the widths.

    P128 Wang et al. 2020, MiniLM, arXiv 2002.10957
    Differs: the ordinary loss is trained along, since without it the last layer's output, feed-forward and head would get no gradient
    and yet shrink where weights decay; with `heads` all heads are cut anew into so many, as in MiniLMv2 (Wang et al. 2021, arXiv
    2012.15828).
    Costs: a forward pass of the teacher and T x T relations of both models in one layer.
    """

    attention: float = 1.0  # weight of the divergence between attention distributions
    values: float = 1.0  # weight of the divergence between value relations
    ordinary: float = 1.0  # weight of the cross-entropy of the next token; 0: what lies behind the last attention only decays
    heads: int = 0  # relations that are compared; 0 = one for each head, of which both models then need equally many
    roles = ("net", "teacher")
    opens = True

    def __post_init__(self) -> None:
        if min(self.attention, self.values, self.ordinary) < 0:
            raise ValueError("attention, values and ordinary must not be negative")
        if self.heads < 0:
            raise ValueError(f"heads must not be negative, got {self.heads}")

    def weigh(self, batch: Batch) -> dict[str, float]:
        """Tokens that are no padding, for the divergences; the sum of the weights for the ordinary loss."""
        real = float((batch.documents >= 0).sum())
        return {"attention": real, "values": real, "tokens": float(batch.weights.double().sum())}

    def terms(self, roles: Mapping[str, nn.Module], batch: Batch, seen: Mapping[str, Tensor], rng: Rng) -> dict[str, Tensor]:
        """Nats of KL(teacher, student), summed over tokens and averaged over heads, and nats of the ordinary loss.

        BadInput for models whose heads or directions do not fit.
        """
        net, teacher = roles["net"], roles["teacher"]
        hidden_BTD, *own = self.heard(net, batch)
        with torch.no_grad():
            _, *wanted = self.heard(teacher, batch)
        if net.cfg.causal != teacher.cfg.causal:
            raise BadInput("loss: minilm compares two causal models, or two that are not; one of these is and the other is not")
        if [x.shape[2] for x in own] != [x.shape[2] for x in wanted]:
            raise BadInput("loss: minilm compares head with head and the teacher has another number of them; say `heads`, such as 4")
        documents, length = batch.documents, batch.inputs.shape[1]
        allowed = documents[:, :, None] == documents[:, None]
        if net.cfg.causal:
            allowed = visible(documents, 0, length, documents.device)
        real = (documents >= 0)[:, None]
        (q, k, v), (teacher_q, teacher_k, teacher_v) = own, wanted
        hidden_ND = hidden_BTD.reshape(-1, hidden_BTD.shape[-1])
        nats = head_cross_entropy(net, hidden_ND, batch.targets.reshape(-1), batch.weights.reshape(-1))
        return {
            "attention": self.attention * divergence(relation(teacher_q, teacher_k, allowed), relation(q, k, allowed), real),
            "values": self.values * divergence(relation(teacher_v, teacher_v, allowed), relation(v, v, allowed), real),
            "tokens": self.ordinary * nats if self.ordinary else nats.new_zeros(()),
        }

    def heard(self, net: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Hidden states of a pass, and queries, keys and values of its last layer, each (B, T, H, E).

        They are computed again from what the mixer was given, so that it does not matter how the mixer attends.
        """
        mixer, caught = net.blocks[-1].mixer, []
        hook = mixer.register_forward_pre_hook(lambda _, given: caught.append((*given, torch.is_grad_enabled())))
        try:
            hidden_BTD = net(batch.inputs, batch.positions, batch.documents)
        finally:
            hook.remove()
        x_BTD, ctx, recorded = caught[-1]
        if hidden_BTD.requires_grad and not recorded:
            raise BadInput("loss: minilm looks inside the model, which this backward pass computes in pieces; say `backward: autograd`")
        q, k, v = mixer.split(x_BTD)
        if mixer.rotary:
            q, k = rotate(q, ctx.cos, ctx.sin), rotate(k, ctx.cos, ctx.sin)
        k = k.repeat_interleave(q.shape[2] // k.shape[2], dim=2)
        if not self.heads:
            return hidden_BTD, q, k, v
        if any(x.shape[2] * x.shape[3] % self.heads for x in (q, v)):
            raise BadInput(f"loss: minilm cannot cut the heads of a model into {self.heads}; say a `heads` that divides their width")
        return hidden_BTD, *(x.flatten(2).unflatten(2, (self.heads, -1)) for x in (q, k, v))


def relation(a_BTHE: Tensor, b_BTHE: Tensor, allowed_BTT: Tensor) -> Tensor:
    """log softmax(a b' / sqrt(E)) over the tokens that each may see, (B, H, T, T) in fp32."""
    scores_BHTT = torch.einsum("bthe,bshe->bhts", a_BTHE.float(), b_BTHE.float()) * a_BTHE.shape[-1] ** -0.5
    return F.log_softmax(scores_BHTT.masked_fill(~allowed_BTT[:, None], HIDDEN), -1)


def divergence(wanted_BHTT: Tensor, own_BHTT: Tensor, real_B1T: Tensor) -> Tensor:
    """Sum over tokens, mean over heads, of KL(wanted, own)."""
    each_BHT = F.kl_div(own_BHTT, wanted_BHTT, reduction="none", log_target=True).sum(-1)
    return (each_BHT * real_B1T).sum() / each_BHT.shape[1]
