"""Causal attention in which each block of queries reads some keys of each head alone: what is not read is neither gathered nor multiplied.

Shapes: H query heads, K key heads, T new tokens, S tokens so far (the new ones are the last), E head width, Q queries of a block, N keys
that a block reads.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bloomery.infer.hiding import Hide

BLOCK = 64  # queries that read the same keys
Choice = tuple[Tensor, Tensor | None]
"""Of the queries from one position to another: the keys that each head reads for them, bool (H, keys up to the last query), and where it
does not see all of those up to each query, what each query sees, bool (H, Q, the same keys)."""


def attend_chosen(
    q_HTE: Tensor, k_KSE: Tensor, v_KSE: Tensor, choose: Callable[[int, int], Choice], scale: float, cap: float = 0.0
) -> Tensor:  # fmt: skip
    """(H, T, E); `choose(start, stop)` is asked for each block of positions, and must let every query see a key."""
    (H, T, E), (K, S) = q_HTE.shape, k_KSE.shape[:2]
    first_H = torch.arange(H, device=q_HTE.device)[:, None] // (H // K) * S  # of each head's keys, all heads laid end to end
    k, v = (one.reshape(K * S, E) for one in (k_KSE, v_KSE))
    out = torch.empty_like(q_HTE)
    for start in range(S - T, S, BLOCK):
        stop = min(start + BLOCK, S)
        columns_HS, seen_HQS = choose(start, stop)
        which, key = columns_HS.nonzero().unbind(1)
        lengths = columns_HS.sum(1)
        place = torch.arange(len(key), device=key.device) - (lengths.cumsum(0) - lengths)[which]
        key_HN = torch.full((H, int(lengths.max())), S, device=key.device)  # S: none
        key_HN[which, place] = key
        at_HN = key_HN.clamp(max=stop - 1)
        here = slice(start - (S - T), stop - (S - T))
        gathered = (first_H + at_HN).flatten()
        scores = torch.bmm(q_HTE[:, here], k.index_select(0, gathered).view(H, -1, E).transpose(1, 2)).float() * scale
        scores = cap * torch.tanh(scores / cap) if cap else scores
        hidden = key_HN[:, None] > torch.arange(start, stop, device=key.device)[:, None]
        if seen_HQS is not None:
            hidden = hidden | ~seen_HQS.gather(2, at_HN[:, None].expand(-1, stop - start, -1))
        weight = scores.masked_fill_(hidden, float("-inf")).softmax(-1).to(v.dtype)
        out[:, here] = torch.bmm(weight, v.index_select(0, gathered).view(H, -1, E))
    return out


def shown(hide: Hide, start: int, stop: int, device: torch.device) -> Choice:
    """The choice of heads that do not see all keys."""
    query, key = torch.arange(start, stop, device=device), torch.arange(stop, device=device)
    seen_HQS = hide(query[None], key[None])[0] & (key <= query[:, None])
    return seen_HQS.any(1), seen_HQS
