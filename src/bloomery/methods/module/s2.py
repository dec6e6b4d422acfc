"""Attention whose heads each read a part of the context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from bloomery.core.errors import BadInput
from bloomery.nn.attention import Attention
from bloomery.nn.context import Context
from bloomery.nn.model import restart
from bloomery.nn.rotary import rotate
from bloomery.seams import Rng, Site


@dataclass(frozen=True)
class S2:
    """Every head reads the newest tokens and its own shard of the others: blocks of keys are dealt out to the heads in turn.

    P383 Lin et al. 2024, arXiv 2407.17678
    Differs: no kernel of its own. Prompts of 512 tokens and more pass over keys that a head does not read (`infer/columns.py`);
    shorter ones, training and steps mask their scores, and caches keep all keys: only long prompts are read faster than with masks.
    Heads next to one another have one shard where there are more heads than shards, so that those of one key head agree if they can.
    Costs: in training scores of all pairs, masked; a mask of each head for each pass.
    """

    shards: int = 2  # parts of the context, at most as many as heads; 1 = attention as ever
    block: int = 16  # keys that go to a shard together
    window: int = 32  # newest tokens that every head reads
    whole: int = 1  # layers, the first ones, that read everything (the paper's hybrid)
    alike: bool = False  # all heads read the first shard, the paper's comparison: what other shards hold is lost
    site = "mixer"
    space = {"rate": (1e-3, 1e-2)}

    def __post_init__(self) -> None:
        if min(self.shards, self.block, self.window) < 1 or self.whole < 0:
            raise ValueError("shards, block and window must be at least 1, whole at least 0")

    def build(self, cfg: Any, site: Site, old: nn.Module, rng: Rng) -> nn.Module | None:
        """The same attention with its heads' shards, None in the layers that stay whole; ValueError where `old` is none that it can be."""
        if site.layer < self.whole:
            return None
        if type(old) is not Attention or not old.causal or old.window or old.cap or old.rounds is not None:
            raise ValueError("it is no plain causal attention over all of a text")
        if cfg.positions not in ("rotary", "learned") or self.shards > cfg.heads:
            raise ValueError(f"shards needs rotary or learned positions and at most one shard for each of the {cfg.heads} heads")
        with torch.device("meta"):
            m = Sharded(cfg, site.layer)
        m.qkv, m.out, m.q_norm, m.k_norm = old.qkv, old.out, old.q_norm, old.k_norm
        m.window_of_all, m.block = self.window, self.block
        m.shards, m.shard = self.shards, [0 if self.alike else head * self.shards // cfg.heads for head in range(cfg.heads)]
        return m


class Sharded(Attention):
    """Attention in which a head sees keys less than `window_of_all` away, and those of its `shard`.

    Shapes: B rows, T queries, S keys, H heads.
    """

    window_of_all: int
    block: int
    shards: int
    shard: list[int]  # of each head

    def shown(self, query_BT: Tensor, key_BS: Tensor) -> Tensor:
        """(B, H, T, S): whether a head reads a key, by their positions; that no key lies after its query is not looked at."""
        shard_H = torch.tensor(self.shard, device=key_BS.device)
        own_BHS = (key_BS // self.block % self.shards)[:, None] == shard_H[None, :, None]
        near_BTS = query_BT[:, :, None] - key_BS[:, None] < self.window_of_all
        return near_BTS[:, None] | own_BHS[:, :, None]

    def forward(self, x_BTD: Tensor, ctx: Context) -> Tensor:
        if self.across is not None or self.heads != len(self.shard):
            raise BadInput("attention by shards is not laid over several ranks; leave out s2, or the axes context and tensor")
        q, k, v = (z.transpose(1, 2) for z in self.split(x_BTD))
        if self.rotary:
            q, k = (rotate(z, ctx.cos, ctx.sin, 1.0, heads=1) for z in (q, k))
        length = x_BTD.shape[1]
        at = restart(length, ctx.documents, x_BTD.device)
        seen = torch.ones(length, length, dtype=torch.bool, device=x_BTD.device).tril()[None]
        if ctx.prefix is not None:
            seen = seen | ctx.prefix[:, None]
        if ctx.documents is not None:
            seen = seen & (ctx.documents[:, :, None] == ctx.documents[:, None])
        mask = seen[:, None] & self.shown(at, at)
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale, enable_gqa=self.heads != self.kv_heads)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def step(self, x_BTD: Tensor, layer: int, cache: Any) -> Tensor:
        return super().step(x_BTD, layer, Hiding(cache, self.shown))


class Hiding:
    """A cache that hides keys from heads."""

    def __init__(self, cache: Any, shown: Any) -> None:
        self.cache, self.shown, self.cos, self.sin = cache, shown, cache.cos, cache.sin

    def attend(self, *given: Any) -> Tensor:
        """As the cache does, but for what is hidden."""
        return self.cache.attend(*given, hide=self.shown)
