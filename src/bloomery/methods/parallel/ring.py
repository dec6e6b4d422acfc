from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bloomery.num.stretches import Seen, crossing, gathered, indivisible, masked_scores, stretch
from bloomery.seams import Batch

# Shapes: B rows, t tokens of a stretch, K key heads, G query heads that share one, E head width.


@dataclass(frozen=True)
class Ring:
    """Each rank has a stretch of every row; keys and values go round, and each rank adds up what its queries see of them.

    Liu et al. 2023, Ring Attention, arXiv 2310.01889
    Differs: stretches are in order, so that of causal rows the last rank does the most; blocks that nobody sees are passed on unread.
    Costs: sent a rank and layer: n - 1 times its keys and values forward; backward the same, and n times their gradients.
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
    q = q_BtHE.transpose(1, 2).reshape(B, K, H // K * t, E)
    kv = torch.stack([z.transpose(1, 2) for z in (k_BtKE, v_BtKE)])
    seen = Seen(gathered(documents_Bt, group), t, group.rank(), causal, window)
    out = _Ring.apply(q, kv, seen, group)
    return out.view(B, H, t, E).transpose(1, 2).flatten(2)


def pass_on(x: Tensor, group: Any) -> Tensor:
    """Give `x` to the next rank of the ring and take that of the one before."""
    n, own, got = group.size(), group.rank(), torch.empty_like(x)
    ranks = dist.get_process_group_ranks(group)
    moves = [dist.P2POp(dist.isend, x.contiguous(), ranks[(own + 1) % n], group), dist.P2POp(dist.irecv, got, ranks[(own - 1) % n], group)]
    for work in dist.batch_isend_irecv(moves):
        work.wait()
    return got


class _Ring(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, kv: Tensor, seen: Seen, group: Any) -> Tensor:
        n, own = group.size(), group.rank()
        most = q.new_full((*q.shape[:3], 1), float("-inf"), dtype=torch.float32)
        total, out, moving = torch.zeros_like(most), torch.zeros_like(q, dtype=torch.float32), kv
        for turn in range(n):
            if (mask := seen((own - turn) % n)) is not None:
                s = masked_scores(q, moving[0], mask)
                high = torch.maximum(most, s.amax(-1, keepdim=True))
                safe = high.masked_fill(high == float("-inf"), 0.0)
                p, shrink = (s - safe).exp(), (most - safe).exp()
                total, out, most = total * shrink + p.sum(-1, keepdim=True), out * shrink + p @ moving[1].float(), high
            if turn < n - 1:
                moving = pass_on(moving, group)
        out = out / total
        ctx.seen, ctx.group = seen, group
        ctx.save_for_backward(q, kv, out, most + total.log())
        return out.to(q.dtype)

    @staticmethod
    def backward(ctx: Any, by_out: Tensor) -> tuple[Tensor | None, ...]:
        q, kv, out, log_total = ctx.saved_tensors
        n, own, by = ctx.group.size(), ctx.group.rank(), by_out.float()
        spread = (by * out).sum(-1, keepdim=True)
        by_q, by_moving, moving = torch.zeros_like(out), torch.zeros_like(kv, dtype=torch.float32), kv
        for turn in range(n):
            if (mask := ctx.seen((own - turn) % n)) is not None:
                p = (masked_scores(q, moving[0], mask) - log_total).exp()
                by_s = p * (by @ moving[1].float().transpose(2, 3) - spread)
                by_q += by_s @ moving[0].float()
                by_moving = by_moving + torch.stack([by_s.transpose(2, 3) @ q.float(), p.transpose(2, 3) @ by])
            if turn < n - 1:
                moving = pass_on(moving, ctx.group)
            by_moving = pass_on(by_moving, ctx.group)
        return by_q.to(q.dtype), by_moving.to(kv.dtype), None, None
