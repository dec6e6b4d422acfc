from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed._functional_collectives import all_to_all_single

from bloomery.num.stretches import Seen, crossing, gathered, indivisible, masked_scores, stretch
from bloomery.seams import Batch

# Shapes: B rows, t tokens of a stretch, K key heads, G query heads that share one, E head width, M keys that come from other ranks.


@dataclass(frozen=True)
class Bytescale:
    """Documents take as many ranks as they reach over: keys and values go only to the ranks that have later tokens of their document.

    P378 Ge et al. 2025, ByteScale, arXiv 2502.21231
    Differs: rows of packed documents are cut into equal stretches, so that a document within one is computed there alone, as the paper's
    short sequences are; its assignment of sequences that evens out the work, and offloading of activations, are not there.
    Costs: sent a rank and layer: keys and values once for each other rank that sees them; their gradients back.
    """

    axes = ("context",)
    exact = True
    eager = True

    def place(self, net: nn.Module, mesh: Any) -> nn.Module:
        """Attention of every block asks others for what it sees there while a step is divided."""
        return crossing(net, mesh, asked)

    def split(self, batch: Batch, mesh: Any) -> Batch:
        """This rank's stretch of every row."""
        return stretch(batch, mesh.place["context"], mesh.sizes["context"])

    def unfit(self, cfg: Any, row: int, sizes: Mapping[str, int]) -> str:
        """Tokens must divide evenly, and scores must be plain."""
        return indivisible(cfg, row, sizes["context"], plain=True)


def asked(
    q_BtHE: Tensor, k_BtKE: Tensor, v_BtKE: Tensor, documents_Bt: Tensor, causal: bool, window: int, *more: Any, group: Any
) -> Tensor:
    """`attend` over whole rows with queries that are scaled already, (B, t, H x E)."""
    B, t, H, E = q_BtHE.shape
    K, n, own = k_BtKE.shape[2], group.size(), group.rank()
    seen = Seen(gathered(documents_Bt, group), t, own, causal, window)
    gives, takes = ([wanted(seen, *pair) for pair in pairs] for pairs in ([(j, own) for j in range(n)], [(own, i) for i in range(n)]))
    kv_Bt = torch.cat([k_BtKE, v_BtKE], 2)
    sent = torch.cat([kv_Bt[mask] for mask in gives])
    sizes = [[int(mask.sum()) for mask in masks] for masks in (takes, gives)]
    got = all_to_all_single(sent, *sizes, group)
    keys, masks = [], []
    for i, (mask, part) in enumerate(zip(takes, got.split(sizes[0]), strict=True)):
        if i == own or len(part):
            keys.append(kv_Bt if i == own else torch.zeros_like(kv_Bt).index_put((mask,), part))
            block = seen(i)
            masks.append(block if i == own else block & mask[:, None])
    k, v = torch.cat(keys, 1).transpose(1, 2).split(K, 1)
    q = q_BtHE.transpose(1, 2).reshape(B, K, H // K * t, E)
    q = q + 0.0 * got.sum()  # all ranks go back through the exchange together, also one that was given nothing
    p = masked_scores(q, k, torch.cat(masks, 2)).softmax(-1).to(v.dtype)
    return (p @ v).view(B, H, t, E).transpose(1, 2).flatten(2)


def wanted(seen: Seen, queries: int, keys: int) -> Tensor:
    """Which keys of one stretch the queries of another see, bool (B, t); none of its own, and no padding."""
    documents_Bt = seen.documents_BT[:, keys * seen.t : (keys + 1) * seen.t]
    mask = None if queries == keys else replace(seen, own=queries)(keys)
    return torch.zeros_like(documents_Bt, dtype=torch.bool) if mask is None else mask.any(1) & (documents_Bt >= 0)
