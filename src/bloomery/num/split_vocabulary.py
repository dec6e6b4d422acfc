"""Cross-entropy where ranks hold parts of the vocabulary: logits never leave their rank.

Shapes: N tokens, D width, v words of a rank's part, C tokens of a chunk, n ranks.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from bloomery.num.cross_entropy import wide


class _Split(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        h_ND: Tensor,
        w_vD: Tensor,
        targets_N: Tensor,
        weights_N: Tensor,
        chunk: int,
        bias_v: Tensor | None,
        cap: float,
        group: Any,
    ) -> Tensor:
        needed, begin = ctx.needs_input_grad, group.rank() * len(w_vD)
        dh_ND = torch.zeros_like(h_ND) if needed[0] else None
        dw_vD = torch.zeros_like(w_vD, dtype=wide(w_vD.dtype)) if needed[1] else None
        db_v = torch.zeros_like(bias_v, dtype=wide(w_vD.dtype)) if needed[5] else None
        total = torch.zeros((), dtype=torch.float64, device=h_ND.device)
        for start in range(0, len(h_ND), chunk):
            part = slice(start, start + chunk)
            logits_Cv = h_ND[part] @ w_vD.T
            logits_Cv = logits_Cv if bias_v is None else logits_Cv + bias_v
            logits_Cv = (cap * torch.tanh(logits_Cv / cap) if cap else logits_Cv).to(wide(logits_Cv.dtype))
            place_C = targets_N[part] - begin
            here_C = (place_C >= 0) & (place_C < len(w_vD))
            place_C = place_C.clamp(0, len(w_vD) - 1)
            high_C = logits_Cv.amax(-1)
            raised_Cv = (logits_Cv - high_C[:, None]).exp()
            wanted_C = logits_Cv.gather(-1, place_C[:, None]).squeeze(-1).masked_fill(~here_C, 0.0)
            highs_nC, sums_nC, wanted_nC = told(torch.stack([high_C, raised_Cv.sum(-1), wanted_C]), group).unbind(1)
            most_C = highs_nC.amax(0)
            sum_C = (sums_nC * (highs_nC - most_C).exp()).sum(0)
            weights_C = weights_N[part]
            total += ((sum_C.log() + most_C - wanted_nC.sum(0)) * weights_C).sum(dtype=torch.float64)
            if not (needed[0] or needed[1] or needed[5]):
                continue
            g_Cv = raised_Cv * ((high_C - most_C).exp() / sum_C * weights_C)[:, None]
            g_Cv.scatter_add_(-1, place_C[:, None], -(weights_C * here_C).to(g_Cv.dtype)[:, None])
            g_Cv = (g_Cv * (1 - (logits_Cv / cap).square()) if cap else g_Cv).to(h_ND.dtype)
            if db_v is not None:
                db_v += g_Cv.sum(0)
            if dh_ND is not None:
                dh_ND[part] = g_Cv @ w_vD
            if dw_vD is not None:
                dw_vD += g_Cv.T @ h_ND[part]
        if dh_ND is not None:
            dist.all_reduce(dh_ND, group=group)
        ctx.save_for_backward(dh_ND, dw_vD, db_v)
        ctx.head_type = w_vD.dtype
        return total.to(wide(h_ND.dtype))

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        dh_ND, dw_vD, db_v = ctx.saved_tensors
        dh_ND = None if dh_ND is None else dh_ND * scale
        dw_vD = None if dw_vD is None else (dw_vD * scale).to(ctx.head_type)
        db_v = None if db_v is None else (db_v * scale).to(ctx.head_type)
        return dh_ND, dw_vD, None, None, None, db_v, None, None


def told(figures: Tensor, group: Any) -> Tensor:
    """What every rank knows, one after the other: the one time that ranks wait for each other in a chunk."""
    parts = [torch.empty_like(figures) for _ in range(group.size())]
    dist.all_gather(parts, figures, group=group)
    return torch.stack(parts)


def split_cross_entropy(
    h_ND: Tensor, w_vD: Tensor, targets_N: Tensor, weights_N: Tensor, group: Any, chunk: int = 512, bias_v: Tensor | None = None,
    cap: float = 0.0,
) -> Tensor:  # fmt: skip
    """`num.cross_entropy.linear_cross_entropy` where each rank of `group` has equally many rows of the head, in order, and the same of
    everything else: the same sum, and gradients of all of `h_ND` and of a rank's own rows.

    A rank raises its logits by their own maximum; the figures of a token (maximum, sum, logit of the target) are gathered once, and what
    was raised is scaled afterwards. Yeung et al. 2024, Vocabulary Parallelism, arXiv 2411.05288.
    """
    return _Split.apply(h_ND, w_vD, targets_N, weights_N, chunk, bias_v, cap, group)
