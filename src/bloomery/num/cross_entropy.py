"""Head and cross-entropy together, chunk by chunk: the logits of all tokens never exist at once.

Shapes: N tokens, D width, V vocabulary, C tokens of a chunk. The gradients of hidden states and head are computed while the
logits of a chunk are at hand, so that the backward pass only scales them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bloomery.num.clipping import local

Kernel = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def wide(dtype: torch.dtype) -> torch.dtype:
    """The type in which sums are kept: float32 at least."""
    return torch.promote_types(dtype, torch.float32)


def softmax_gradient(logits_CV: Tensor, targets_C: Tensor, weights_C: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted gradient of the cross-entropy by the logits (in their type) and the weighted nats of each token (wide)."""
    log_CV = torch.log_softmax(logits_CV, -1, dtype=wide(logits_CV.dtype))
    log_C1 = log_CV.gather(-1, targets_C[:, None])
    gradient_CV = log_CV.exp_().mul_(weights_C[:, None]).to(logits_CV.dtype)
    gradient_CV.scatter_(-1, targets_C[:, None], (log_C1.expm1() * weights_C[:, None]).to(logits_CV.dtype))
    return gradient_CV, -log_C1.squeeze(-1) * weights_C


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, h_ND: Tensor, w_VD: Tensor, targets_N: Tensor, weights_N: Tensor, chunk: int, bias_V: Tensor | None, cap: float,
        kernel: Kernel,
    ) -> Tensor:  # fmt: skip
        wants_h, wants_w, wants_b = *ctx.needs_input_grad[:2], ctx.needs_input_grad[5]
        dh_ND = torch.empty_like(h_ND) if wants_h else None
        dw_VD = None
        db_V = torch.zeros_like(bias_V, dtype=wide(w_VD.dtype)) if wants_b else None
        total = torch.zeros((), dtype=torch.float64, device=h_ND.device)
        for begin in range(0, len(h_ND), chunk):
            part = slice(begin, begin + chunk)
            logits_CV = h_ND[part] @ w_VD.T
            logits_CV = logits_CV if bias_V is None else logits_CV + bias_V
            logits_CV = cap * torch.tanh(logits_CV / cap) if cap else logits_CV
            if not (wants_h or wants_w or wants_b):
                nats_C = F.cross_entropy(logits_CV.to(wide(logits_CV.dtype)), targets_N[part], reduction="none") * weights_N[part]
            else:
                g_CV, nats_C = kernel(logits_CV, targets_N[part], weights_N[part])
                g_CV = g_CV * (1 - (logits_CV / cap).square()) if cap else g_CV
                if wants_b:
                    db_V += g_CV.sum(0)
                if wants_h:
                    torch.mm(g_CV, w_VD, out=dh_ND[part])
                if wants_w:
                    more_VD = g_CV.T @ h_ND[part]
                    dw_VD = more_VD.to(wide(w_VD.dtype)) if dw_VD is None else dw_VD.add_(more_VD)
            total += nats_C.sum(dtype=torch.float64)
        ctx.save_for_backward(dh_ND, dw_VD, db_V)
        ctx.head_type = w_VD.dtype
        return total.to(wide(h_ND.dtype))

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        dh_ND, dw_VD, db_V = ctx.saved_tensors
        dh_ND = None if dh_ND is None else dh_ND * scale
        dw_VD = None if dw_VD is None else (dw_VD * scale).to(ctx.head_type)
        db_V = None if db_V is None else (db_V * scale).to(ctx.head_type)
        return dh_ND, dw_VD, None, None, None, db_V, None, None


def linear_cross_entropy(
    h_ND: Tensor, w_VD: Tensor, targets_N: Tensor, weights_N: Tensor, chunk: int = 512, bias_V: Tensor | None = None, cap: float = 0.0,
    kernel: Kernel = softmax_gradient,
) -> Tensor:  # fmt: skip
    """Sum over tokens of weight x -log softmax(h @ w.T + bias)[target], in nats, differentiable by `h_ND`, `w_VD` and `bias_V`.

    With a `cap` logits are cap x tanh(logits / cap). They are held for `chunk` tokens at a time; the head's gradient is accumulated in
    float32 whatever the type of the weights. `kernel` is `softmax_gradient`, or what it was compiled to.
    """
    return _LinearCrossEntropy.apply(h_ND, w_VD, targets_N, weights_N, chunk, bias_V, cap, kernel)


def head_cross_entropy(net: Any, h_ND: Tensor, targets_N: Tensor, weights_N: Tensor, chunk: int = 512) -> Tensor:
    """The same with the head of a model, whatever it has besides its matrix; a compiled model's `softmax_gradient` is compiled too."""
    if (group := getattr(net, "vocabulary", None)) is not None:  # ranks have parts of the head
        from bloomery.num.split_vocabulary import split_cross_entropy

        part, bias = local(net.head_weight), getattr(net, "head_bias", None)
        own = bias if bias is None else local(bias)
        return split_cross_entropy(h_ND, part, targets_N, weights_N, group, chunk, own, getattr(net, "logit_cap", 0.0))
    bias_V, cap, kernel = (
        getattr(net, "head_bias", None),
        getattr(net, "logit_cap", 0.0),
        getattr(net, "softmax_gradient", softmax_gradient),
    )
    return linear_cross_entropy(h_ND, net.head_weight, targets_N, weights_N, chunk, bias_V, cap, kernel)
