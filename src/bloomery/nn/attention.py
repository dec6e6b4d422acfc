"""Rotary positions and attention, causal or in both directions, that never crosses documents.

Shapes: B rows, T tokens, H query heads, K key heads, G = H / K query heads that share one key head, E head width, S cache slots.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

BLOCKS = 4  # query blocks of the training path: each skips the keys after it; more save a little time and cost compilation
LARGEST = 512  # queries in one block at most, so that the scores of a long row stay small


def rotary(positions_BT: Tensor, width: int, base: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every position, each (B, T, width / 2) in fp32; Su et al. 2021, arXiv 2104.09864."""
    exponent = torch.arange(0, width, 2, dtype=torch.float32, device=positions_BT.device) / width
    angle = positions_BT[..., None].float() * (1.0 / base**exponent)
    return angle.cos(), angle.sin()


def rotate(x_BTHE: Tensor, cos_BTe: Tensor, sin_BTe: Tensor, scale: float = 1.0) -> Tensor:
    """Turns the halves of each head by its position, in fp32, times `scale`; returns the dtype of `x`."""
    first, second = x_BTHE.float().chunk(2, dim=-1)
    cos, sin = cos_BTe[:, :, None] * scale, sin_BTe[:, :, None] * scale
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x_BTHE.dtype)


def turn(x_BTHE: Tensor, cos_BT1E: Tensor, sin_BT1E: Tensor) -> Tensor:
    """The same rotation in few operations, for decoding; cosine and sine as from `widen`, (B or 1, T, 1, E)."""
    x = x_BTHE.float()
    return torch.addcmul(x * cos_BT1E, x.roll(x.shape[-1] // 2, -1), sin_BT1E).to(x_BTHE.dtype)


def widen(cos_BTe: Tensor, sin_BTe: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and signed sine of both halves, (B, T, 1, E): what `turn` multiplies by."""
    return torch.cat((cos_BTe, cos_BTe), dim=-1)[:, :, None], torch.cat((-sin_BTe, sin_BTe), dim=-1)[:, :, None]


def visible(documents_BT: Tensor | None, start: int, stop: int, device: torch.device) -> Tensor:
    """Which of the keys 0..stop the queries start..stop may see in causal attention: bool, (B or 1, queries, keys)."""
    order = torch.arange(stop, device=device, dtype=torch.int32)
    seen = (order[start:, None] >= order[None, :])[None]
    if documents_BT is None:
        return seen
    return seen & (documents_BT[:, start:stop, None] == documents_BT[:, None, :stop])


def fused(documents_BT: Tensor | None) -> bool:
    """Whether `attend` uses torch's fused kernel: whole rows without gradients."""
    return documents_BT is None and not torch.is_grad_enabled()


def attend(q_BTHE: Tensor, k_BTKE: Tensor, v_BTKE: Tensor, documents_BT: Tensor | None = None, causal: bool = True) -> Tensor:
    """Attention within documents, (B, T, H x E); `q` is already scaled by E ** -0.5, unless rows are `fused`.

    Unless `causal`, a token sees all of its document. Padding (document -1) sees padding alone, so no row is ever empty. The group of
    query heads that share a key head are rows of one product, so keys and values are never repeated.

    The fused kernel, which scales by itself, is what transformers uses: sums in another order alone make a trained model's logits
    differ from theirs by more than 1e-5 in fp32.
    """
    B, T, H, E = q_BTHE.shape
    if fused(documents_BT):
        q, k, v = (z.transpose(1, 2) for z in (q_BTHE, k_BTKE, v_BTKE))
        out = scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=k.shape[1] != H)
        return out.transpose(1, 2).reshape(B, T, H * E)
    K = k_BTKE.shape[2]
    G = H // K
    q = q_BTHE.view(B, T, K, G, E).transpose(1, 2).reshape(B * K, T * G, E)
    k, v = (z.transpose(1, 2).reshape(B * K, T, E) for z in (k_BTKE, v_BTKE))
    step = min(-(-T // BLOCKS), LARGEST)
    out = []
    for start in range(0, T, step):
        stop = min(start + step, T)
        keys = stop if causal else T
        scores = torch.bmm(q[:, start * G : stop * G], k[:, :keys].transpose(1, 2)).view(B, K, stop - start, G, keys).float()
        if causal or documents_BT is not None:
            seen = visible(documents_BT, start, stop, q.device) if causal else documents_BT[:, start:stop, None] == documents_BT[:, None]
            scores = scores.masked_fill(~seen[:, None, :, None, :], float("-inf"))
        out.append(torch.bmm(scores.softmax(-1).to(v.dtype).view(B * K, (stop - start) * G, keys), v[:, :keys]))
    return torch.cat(out, dim=1).view(B, K, T, G, E).transpose(1, 2).reshape(B, T, H * E)


def attend_cached(q_BTHE: Tensor, keys_BKSE: Tensor, values_BKSE: Tensor, mask: Tensor | None) -> Tensor:
    """The newest T tokens over all cached slots, (B, T, H x E); `mask` is added to the scores, (B or 1, 1, T x G, S)."""
    B, T, H, E = q_BTHE.shape
    K = keys_BKSE.shape[1]
    G = H // K
    if T == 1:
        q = q_BTHE.view(B, K, G, E)
        return scaled_dot_product_attention(q, keys_BKSE, values_BKSE, attn_mask=mask).view(B, 1, H * E)
    q = q_BTHE.view(B, T, K, G, E).transpose(1, 2).reshape(B, K, T * G, E)
    out = scaled_dot_product_attention(q, keys_BKSE, values_BKSE, attn_mask=mask)
    return out.view(B, K, T, G, E).transpose(1, 2).reshape(B, T, H * E)
