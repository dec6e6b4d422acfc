"""Keys that a mixer hides from some of its heads, as caches add it to scores.

Shapes: B rows, T new tokens, S slots of a cache, H query heads, K key heads, G = H / K.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Hide = Callable[[Tensor, Tensor], Tensor]
"""Positions of queries (B, T) and keys (B, S) -> bool (B, H, T, S), True where a head may see. A query always sees its own key."""


def hidden(hide: Hide, query_BT: Tensor, key_BS: Tensor, kv_heads: int, dtype: torch.dtype) -> Tensor:
    """(B, K, T x G, S): 0 where a head may see, else minus infinity."""
    seen = hide(query_BT, key_BS).unflatten(1, (kv_heads, -1)).transpose(2, 3).flatten(2, 3)
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, float("-inf"))
