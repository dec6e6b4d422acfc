"""Attention of a decoder to what an encoder made of another text.

Shapes: B rows, T tokens, S tokens of the source, D width, H heads, K key heads, E head width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bloomery.nn.config import Config
from bloomery.nn.context import Context


class CrossAttention(nn.Module):
    """Queries come from the text, keys and values (rows of `kv`: all keys first) from the source; positions play no part."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = cfg.heads, cfg.kv_heads, cfg.head_width
        self.scale = (cfg.query_scalar or cfg.head_width) ** -0.5
        self.q = nn.Linear(cfg.width, cfg.query_width, bias=cfg.qkv_bias)
        self.kv = nn.Linear(cfg.width, 2 * cfg.key_width, bias=cfg.qkv_bias)
        self.out = nn.Linear(cfg.query_width, cfg.width, bias=cfg.out_bias)

    def forward(self, x_BTD: Tensor, ctx: Context) -> Tensor:
        B, T, _ = x_BTD.shape
        q = self.q(x_BTD).view(B, T, self.kv_heads, -1, self.head_width).permute(0, 2, 3, 1, 4)
        k, v = self.kv(ctx.source).view(B, ctx.source.shape[1], 2, self.kv_heads, 1, self.head_width).permute(2, 0, 3, 4, 1, 5)
        scores = (q * self.scale @ k.transpose(-1, -2)).float()
        if ctx.seen is not None:  # what sees nothing must stay a number
            scores = scores.masked_fill(~ctx.seen[:, None, None], torch.finfo(scores.dtype).min)
        return self.out((scores.softmax(-1).to(v.dtype) @ v).permute(0, 3, 1, 2, 4).reshape(B, T, -1))
