"""Attention, causal or in both directions, over all of a text or windows of it, that never crosses documents.

Shapes: B rows, T tokens, H query heads, K key heads, G = H / K query heads that share one key head, E head width, S cache slots.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from bloomery.nn.config import Config
from bloomery.nn.context import Context
from bloomery.nn.inputs import Rounds
from bloomery.nn.norm import Norm
from bloomery.nn.rotary import rotate, turn

BLOCKS = 4  # query blocks of the training path: each skips the keys after it; more save a little time and cost compilation
LARGEST = 512  # queries in one block at most, so that the scores of a long row stay small
FAR = 256  # tokens of a row from which on blocks pay where nothing is trained


def visible(
    documents_BT: Tensor | None,
    start: int,
    stop: int,
    device: torch.device,
    window: int = 0,
    causal: bool = True,
    keys: slice | None = None,
) -> Tensor:
    """Which of the `keys` (all before `stop`) the queries start..stop may see: bool, (B or 1, queries, keys)."""
    keys = keys or slice(0, stop)
    query, key = (torch.arange(a, b, device=device, dtype=torch.int32) for a, b in ((start, stop), (keys.start, keys.stop)))
    away = query[:, None] - key[None, :]
    seen = away >= 0 if causal else torch.ones_like(away, dtype=torch.bool)
    if window:
        seen = seen & (away < window if causal else away.abs() < window)
    seen = seen[None]
    return seen if documents_BT is None else seen & (documents_BT[:, start:stop, None] == documents_BT[:, None, keys])


def fused(documents_BT: Tensor | None, cap: float = 0.0) -> bool:
    """Whether `attend` takes scores as they are: whole rows without gradients."""
    return documents_BT is None and not cap and not torch.is_grad_enabled()


def in_blocks(q_BKTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, scale: float) -> Tensor:
    """Causal attention of whole rows, (B, H, T, E), block by block of queries, scores in the type of `q`; heads lie before tokens.

    On a processor that multiplies bfloat16 this is several times as fast as torch's fused kernel.
    """
    B, H, T, E = q_BKTE.shape
    K = k_BKTE.shape[1]
    G, step = H // K, min(-(-T // BLOCKS), LARGEST)
    q, k, v = (q_BKTE * scale).reshape(B * K, G, T, E), k_BKTE.reshape(B * K, T, E), v_BKTE.reshape(B * K, T, E)
    out = torch.empty_like(q)
    for start in range(0, T, step):
        stop = min(start + step, T)
        scores = torch.bmm(q[:, :, start:stop].reshape(B * K, -1, E), k[:, :stop].transpose(1, 2)).view(B * K, G, stop - start, stop)
        later = torch.ones(stop - start, stop - start, dtype=torch.bool, device=q.device).triu(1)
        scores[..., start:].masked_fill_(later, float("-inf"))
        mixed = torch.bmm(scores.softmax(-1).view(B * K, -1, stop), v[:, :stop])
        out[:, :, start:stop] = mixed.view(B * K, G, stop - start, E)
    return out.view(B, H, T, E)


class _Scores(torch.autograd.Function):
    """q @ k.T of every head. Autograd's own gives the gradient of `k` with its dimensions turned, which costs a transposition."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor) -> Tensor:
        ctx.save_for_backward(q, k)
        return torch.bmm(q, k.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, by_scores: Tensor) -> tuple[Tensor, Tensor]:
        q, k = ctx.saved_tensors
        return torch.bmm(by_scores, k), torch.bmm(by_scores.transpose(1, 2), q)


class _Exponentials(torch.autograd.Function):
    """exp(scores - their maximum) in `dtype`, and the sums of what was rounded, by which the caller divides what it makes of them.

    Together they are softmax and have its gradient, which the sums therefore have no part in. The division is left for a narrower tensor,
    and the backward pass reads the rounded numbers alone: autograd's own softmax keeps its result in float32 as well.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        raised = (scores - scores.amax(-1, keepdim=True)).exp().to(dtype)
        total = raised.sum(-1, keepdim=True, dtype=scores.dtype)
        ctx.save_for_backward(raised, total)
        ctx.mark_non_differentiable(total)
        return raised, total

    @staticmethod
    def backward(ctx: Any, by_raised: Tensor, by_total: Tensor) -> tuple[Tensor, None]:
        raised, total = ctx.saved_tensors
        by = by_raised.to(total.dtype)
        return (by - (by * raised).sum(-1, keepdim=True) / total) * raised, None


def attend(
    q_BTHE: Tensor, k_BTKE: Tensor, v_BTKE: Tensor, documents_BT: Tensor | None = None, causal: bool = True, window: int = 0,
    cap: float = 0.0, scale: float | None = None, bias_HTT: Tensor | None = None, prefix_BT: Tensor | None = None,
    weigh: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:  # fmt: skip
    """Attention within documents, (B, T, H x E); `q` is already scaled, unless rows are `fused`: then it is multiplied by `scale`.

    `bias` is added to the scores; all tokens of a document see those of a `prefix`. Unless `causal`, a token sees all of its document;
    with a `window`, keys less than so many positions away. Padding (document -1) sees padding alone, so no row is ever empty. The group
    of query heads that share a key head are rows of one product, so keys and values are never repeated. `weigh` makes others of the
    attention weights, element by element; rows are not fused then, and `q` is scaled.

    The fused kernel, which scales by itself, is what transformers uses: sums in another order alone make a trained model's logits
    differ from theirs by more than 1e-5 in fp32.
    """
    B, T, H, E = q_BTHE.shape
    if weigh is None and fused(documents_BT, cap) and bias_HTT is None and prefix_BT is None:
        q, k, v = (z.transpose(1, 2) for z in (q_BTHE, k_BTKE, v_BTKE))
        mask = visible(None, 0, T, q.device, window, causal)[None] if 0 < window < T else None
        alone = causal and mask is None
        if alone and q.dtype == torch.bfloat16 and q.device.type == "cpu" and T >= FAR:
            return in_blocks(q, k, v, E**-0.5 if scale is None else scale).transpose(1, 2).reshape(B, T, H * E)
        out = scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=alone, scale=scale, enable_gqa=k.shape[1] != H)
        return out.transpose(1, 2).reshape(B, T, H * E)
    K = k_BTKE.shape[2]
    G = H // K
    q = q_BTHE.view(B, T, K, G, E).transpose(1, 2).reshape(B * K, T * G, E)
    k, v = (z.transpose(1, 2).reshape(B * K, T, E) for z in (k_BTKE, v_BTKE))
    step = min(-(-T // BLOCKS), LARGEST)
    out = []
    for start in range(0, T, step):
        stop = min(start + step, T)
        last = stop if causal and prefix_BT is None else min(T, stop + window - 1) if window and prefix_BT is None else T
        keys = slice(max(0, start - window + 1) if window and prefix_BT is None else 0, last)
        these, k_seen, v_seen = (z.contiguous() for z in (q[:, start * G : stop * G], k[:, keys], v[:, keys]))  # once, for both passes
        scores = _Scores.apply(these, k_seen).view(B, K, stop - start, G, -1).float()
        if bias_HTT is not None:
            scores = scores + bias_HTT[:, start:stop, keys].unflatten(0, (K, G)).transpose(1, 2)
        if cap:
            scores = cap * torch.tanh(scores / cap)
        if causal or window or documents_BT is not None:
            seen = visible(documents_BT, start, stop, q.device, window, causal, keys)
            if prefix_BT is not None:
                own = True if documents_BT is None else documents_BT[:, start:stop, None] == documents_BT[:, None]
                seen = seen | (prefix_BT[:, None] & own)
            scores = scores + torch.where(seen, 0.0, float("-inf"))[:, None, :, None, :]
        raised, total = _Exponentials.apply(scores, v.dtype)
        if weigh is not None:
            raised, total = weigh(raised / total), torch.ones_like(total)
        mixed = torch.bmm(raised.view(B * K, (stop - start) * G, -1), v_seen).view(B, K, stop - start, G, E) / total
        out.append(mixed.to(v.dtype).transpose(1, 2).reshape(B, stop - start, H * E))
    return torch.cat(out, dim=1)


def attend_cached(
    q_BTHE: Tensor, keys_BKSE: Tensor, values_BKSE: Tensor, mask: Tensor | None, cap: float = 0.0, scale: float | None = None,
    weigh: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:  # fmt: skip
    """The newest T tokens over all cached slots, (B, T, H x E); `mask` is added to the scores, (B or 1, 1, T x G, S). `weigh` makes others
    of the attention weights."""
    B, T, H, E = q_BTHE.shape
    K = keys_BKSE.shape[1]
    G = H // K
    q = q_BTHE.view(B, K, G, E) if T == 1 else q_BTHE.view(B, T, K, G, E).transpose(1, 2).reshape(B, K, T * G, E)
    if cap or weigh is not None:
        scores = (q @ keys_BKSE.transpose(2, 3)).float() * (scale or E**-0.5)
        scores = cap * torch.tanh(scores / cap) if cap else scores
        if mask is not None:
            scores = (scores + mask).clamp_min(torch.finfo(scores.dtype).min)  # padding sees nothing, and must stay a number
        weights = scores.softmax(-1)
        out = (weights if weigh is None else weigh(weights)).to(q.dtype) @ values_BKSE
    else:
        out = scaled_dot_product_attention(q, keys_BKSE, values_BKSE, attn_mask=mask, scale=scale)
    return out.view(B, 1, H * E) if T == 1 else out.view(B, K, T, G, E).transpose(1, 2).reshape(B, T, H * E)


class Attention(nn.Module):
    """Grouped-query attention; rows of `qkv` are the H query heads, then the K key heads, then the K value heads."""

    def __init__(self, cfg: Config, layer: int = 0) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = cfg.heads, cfg.kv_heads, cfg.head_width
        self.rotary, self.causal, self.window, self.cap = cfg.positions == "rotary", cfg.causal, cfg.window(layer), cfg.score_cap
        self.scale, self.whole = (cfg.query_scalar or cfg.head_width) ** -0.5, cfg.qk_norm_whole
        self.qkv = nn.Linear(cfg.width, cfg.query_width + 2 * cfg.key_width, bias=cfg.qkv_bias)
        widths = (cfg.query_width, cfg.key_width) if self.whole else (cfg.head_width, cfg.head_width)
        self.q_norm, self.k_norm = (Norm(n, cfg.norm_eps) if cfg.qk_norm else None for n in widths)
        self.out = nn.Linear(cfg.query_width, cfg.width, bias=cfg.out_bias)
        self.across: Callable[..., Tensor] | None = None  # attends in the place of `attend`, where rows lie on several ranks
        self.rounds: Rounds | None = None  # grids that queries, keys, values and weights are rounded to, in a model compressed so

    def split(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, T, H, E), keys and values (B, T, K, E), not yet rotated."""
        heads = self.qkv(x_BTD).unflatten(-1, (-1, self.head_width))  # of all tokens, where `x` is a rank's stretch of them
        q, k, v = heads.split((self.heads, self.kv_heads, self.kv_heads), dim=2)
        return (q, k, v) if self.q_norm is None else (*self.normed(q, k), v)

    def normed(self, q_BTHE: Tensor, k_BTKE: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys after their norms."""
        if not self.whole:
            return self.q_norm(q_BTHE), self.k_norm(k_BTKE)
        return self.q_norm(q_BTHE.flatten(2)).view(q_BTHE.shape), self.k_norm(k_BTKE.flatten(2)).view(k_BTKE.shape)

    def forward(self, x_BTD: Tensor, ctx: Context) -> Tensor:
        q, k, v = self.split(x_BTD)
        plain = self.rounds is not None or (fused(ctx.documents, self.cap) and ctx.bias is None and ctx.prefix is None)
        scale = 1.0 if plain else self.scale
        if self.rotary:  # as the products want them, heads before tokens, so that compiled code writes them once
            q, k = (rotate(z.transpose(1, 2), ctx.cos, ctx.sin, by, heads=1).transpose(1, 2) for z, by in ((q, scale), (k, 1.0)))
        elif scale != 1.0:
            q = q * scale
        if self.rounds is not None:
            q, k, v = self.rounds.q(q), self.rounds.k(k), self.rounds.v(v)
            seen = (ctx.documents, self.causal, self.window, self.cap, self.scale, ctx.bias, ctx.prefix)
            return self.out(attend(q * self.scale, k, v, *seen, self.rounds.weights))
        mix = self.across or attend
        return self.out(mix(q, k, v, ctx.documents, self.causal, self.window, self.cap, self.scale, ctx.bias, ctx.prefix))

    def step(self, x_BTD: Tensor, layer: int, cache: Any) -> Tensor:
        """The same for tokens that continue `cache`, which takes their keys and values and attends; see infer/cache.py."""
        heads = self.qkv(x_BTD).view(*x_BTD.shape[:2], -1, self.head_width)
        turning, v = heads.split((self.heads + self.kv_heads, self.kv_heads), dim=2)
        if self.q_norm is not None:
            turning = torch.cat(self.normed(*turning.split((self.heads, self.kv_heads), dim=2)), dim=2)
        if self.rotary:
            turning = turn(turning, cache.cos, cache.sin)
        q, k = turning.split((self.heads, self.kv_heads), dim=2)
        weigh = None
        if self.rounds is not None:
            q, k, v, weigh = self.rounds.q(q), self.rounds.k(k), self.rounds.v(v), self.rounds.weights
        return self.out(cache.attend(layer, q, k, v, self.window, self.cap, self.scale, weigh))
