from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bloomery.num.stretches import Seen, crossing, gathered, indivisible, masked_scores, stretch
from bloomery.seams import Batch

# Shapes: B rows, t tokens of a stretch, K key heads, G query heads that share one, E head width.


@dataclass(frozen=True)
class TokenRing:
    """Each rank has a stretch of every row; queries go round past keys and values that stay, and what they saw goes straight home.

    P446 Wang et al. 2024, TokenRing, arXiv 2412.20501
    Differs: stretches are in order, where the paper deals them out so that causal work is even; sending and computing do not overlap.
    What nobody sees is neither computed nor sent home.
    Costs: sent a rank and layer forward: n - 1 times its queries, and for each stretch whose queries see its keys their outputs and one
    number a token and head. Backward: n - 1 times queries, gradients of outputs and two numbers a token and head; home go the queries'
    gradients.
    """

    axes = ("context",)
    exact = True
    eager = True

    def place(self, net: nn.Module, mesh: Any) -> nn.Module:
        """Attention of every block goes round while a step is divided."""
        return crossing(net, mesh, rounded)

    def split(self, batch: Batch, mesh: Any) -> Batch:
        """This rank's stretch of every row."""
        return stretch(batch, mesh.place["context"], mesh.sizes["context"])

    def unfit(self, cfg: Any, row: int, sizes: Mapping[str, int]) -> str:
        """Tokens must divide evenly, and scores must be plain."""
        return indivisible(cfg, row, sizes["context"], plain=True)


def rounded(
    q_BtHE: Tensor, k_BtKE: Tensor, v_BtKE: Tensor, documents_Bt: Tensor, causal: bool, window: int, *more: Any, group: Any
) -> Tensor:
    """`attend` over whole rows with queries that are scaled already, (B, t, H x E)."""
    B, t, H, E = q_BtHE.shape
    K = k_BtKE.shape[2]
    q, k, v = q_BtHE.transpose(1, 2).reshape(B, K, H // K * t, E), k_BtKE.transpose(1, 2), v_BtKE.transpose(1, 2)
    out = _TokenRing.apply(q, k, v, Seen(gathered(documents_Bt, group), t, group.rank(), causal, window), group)
    return out.view(B, H, t, E).transpose(1, 2).flatten(2)


def exchange(sends: list[tuple[Tensor, int]], takes: list[tuple[Tensor, int]], group: Any) -> None:
    """Give tensors to places of a group and take others into memory that is there, all at once."""
    moves = [dist.P2POp(dist.isend, x.contiguous(), group=group, group_peer=to) for x, to in sends]
    moves += [dist.P2POp(dist.irecv, x, group=group, group_peer=of) for x, of in takes]
    for work in dist.batch_isend_irecv(moves) if moves else ():
        work.wait()


def merged(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Two parts' outputs and logarithms of their sums of exponentials as those of both together, in any order."""
    log = torch.logaddexp(one[1], other[1])
    safe = log.masked_fill(log == float("-inf"), 0.0)
    return one[0] * (one[1] - safe).exp() + other[0] * (other[1] - safe).exp(), log


def seen_of(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """What queries see of these keys, float32, and the logarithm of their sum of exponentials."""
    s = masked_scores(q, k, mask)
    log = s.logsumexp(-1, keepdim=True)
    return (s - log.masked_fill(log == float("-inf"), 0.0)).exp() @ v.float(), log


class _TokenRing(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, seen: Seen, group: Any) -> Tensor:
        n, own = group.size(), group.rank()
        log = q.new_full((*q.shape[:3], 1), float("-inf"), dtype=torch.float32)
        found, moving = (torch.zeros_like(q, dtype=torch.float32), log), q
        for turn in range(n):
            asks, helps = (own - turn) % n, (own + turn) % n  # whose queries are here, and who has this rank's
            mask = replace(seen, own=asks)(own)
            part = seen_of(moving, k, v, mask) if mask is not None else None
            if turn == 0:
                found = found if part is None else merged(found, part)
            else:
                home = [torch.empty_like(x) for x in found] if seen(helps) is not None else []
                exchange([(x, asks) for x in part or ()], [(x, helps) for x in home], group)
                found = merged(found, (home[0], home[1])) if home else found
            if turn < n - 1:
                after = torch.empty_like(moving)
                exchange([(moving, (own + 1) % n)], [(after, (own - 1) % n)], group)
                moving = after
        ctx.seen, ctx.group = seen, group
        ctx.save_for_backward(q, k, v, *found)
        return found[0].to(q.dtype)

    @staticmethod
    def backward(ctx: Any, by_out: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, log = ctx.saved_tensors
        n, own, by = ctx.group.size(), ctx.group.rank(), by_out.float().contiguous()
        spread = (by * out).sum(-1, keepdim=True)
        by_q, by_k, by_v = (torch.zeros_like(x, dtype=torch.float32) for x in (q, k, v))
        moving = [q.contiguous(), by, log, spread]
        for turn in range(n):
            asks, helps = (own - turn) % n, (own + turn) % n
            mask, part = replace(ctx.seen, own=asks)(own), None
            if mask is not None:
                there, by_there, log_there, spread_there = moving
                p = (masked_scores(there, k, mask) - log_there).exp()
                by_s = p * (by_there @ v.float().transpose(2, 3) - spread_there)
                by_k += by_s.transpose(2, 3) @ there.float()
                by_v += p.transpose(2, 3) @ by_there
                part = by_s @ k.float()
            if turn == 0:
                by_q = by_q if part is None else part
            else:
                home = [torch.empty_like(by_q)] if ctx.seen(helps) is not None else []
                exchange([(part, asks)] if part is not None else [], [(x, helps) for x in home], ctx.group)
                by_q = by_q + home[0] if home else by_q
            if turn < n - 1:
                after = [torch.empty_like(x) for x in moving]
                exchange([(x, (own + 1) % n) for x in moving], [(x, (own - 1) % n) for x in after], ctx.group)
                moving = after
        return by_q.to(q.dtype), by_k.to(k.dtype), by_v.to(v.dtype), None, None
