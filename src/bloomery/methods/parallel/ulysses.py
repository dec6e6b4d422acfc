from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.distributed._functional_collectives import all_to_all_single

from bloomery.nn.attention import attend
from bloomery.num.stretches import crossing, gathered, indivisible, stretch
from bloomery.seams import Batch

# Shapes: B rows, T tokens of a row, t = T / n of them on a rank, H heads, h = H / n of them on a rank, E head width.


@dataclass(frozen=True)
class Ulysses:
    """Each rank has a stretch of every row; around attention they exchange, so that each has all tokens of some heads.

    P398 Jacobs et al. 2023, DeepSpeed Ulysses, arXiv 2309.14509
    Differs: keys and values of grouped queries are exchanged as they are, so the key heads too must be a multiple of the ranks; the
    numbers of documents are gathered besides, so that attention keeps within them.
    Costs: sent a rank and layer, forward and again backward: (n - 1) / n of its queries, keys, values and outputs.
    """

    axes = ("context",)
    exact = True
    eager = True

    def place(self, net: nn.Module, mesh: Any) -> nn.Module:
        """Attention of every block goes through the exchange while a step is divided."""
        return crossing(net, mesh, exchanged)

    def split(self, batch: Batch, mesh: Any) -> Batch:
        """This rank's stretch of every row."""
        return stretch(batch, mesh.place["context"], mesh.sizes["context"])

    def unfit(self, cfg: Any, row: int, sizes: Mapping[str, int]) -> str:
        """The heads of a rank and tokens must divide evenly."""
        n, cut = sizes["context"], sizes.get("tensor", 1)
        heads, keys = cfg.heads // cut, cfg.kv_heads // cut
        uneven = f"context {n} does not divide {heads} heads over {keys} key heads" + (f", which tensor {cut} leaves" if cut > 1 else "")
        return uneven if heads % n or keys % n else indivisible(cfg, row, n)


def exchanged(q_BtHE: Tensor, k_BtHE: Tensor, v_BtHE: Tensor, documents_Bt: Tensor | None, *more: Any, group: Any) -> Tensor:
    """`attend` over whole rows, (B, t, H x E)."""
    q, k, v = (to_heads(z, group) for z in (q_BtHE, k_BtHE, v_BtHE))
    documents = None if documents_Bt is None else gathered(documents_Bt, group)
    out_BTX = attend(q, k, v, documents, *more)
    B, T = out_BTX.shape[:2]
    return to_tokens(out_BTX.view(B, T, -1, q.shape[-1]), group).flatten(2)


def to_heads(x_BtHE: Tensor, group: Any) -> Tensor:
    """Of all tokens some heads, (B, T, h, E), instead of some tokens' all heads."""
    n = group.size()
    parts = x_BtHE.unflatten(2, (n, -1)).permute(2, 0, 1, 3, 4).contiguous()
    return all_to_all_single(parts, None, None, group).permute(1, 0, 2, 3, 4).flatten(1, 2)


def to_tokens(x_BThE: Tensor, group: Any) -> Tensor:
    """The way back, (B, t, H, E)."""
    n = group.size()
    parts = x_BThE.unflatten(1, (n, -1)).permute(1, 0, 2, 3, 4).contiguous()
    return all_to_all_single(parts, None, None, group).permute(1, 2, 0, 3, 4).flatten(2, 3)
