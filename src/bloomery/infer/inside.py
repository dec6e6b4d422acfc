"""What a network holds while it reads a text: hidden states and attention of every layer, on request.

A slow path: the weights of attention, which decoding never writes down, are made whole beside the pass itself.
Shapes: T tokens, D width, H query heads, K key heads, G = H / K, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bloomery.core.errors import BadInput
from bloomery.nn.attention import Attention, attend, fused, visible
from bloomery.nn.model import Transformer


@dataclass
class Inside:
    """`hidden` (T, D) before the first layer and after each, `attention` (H, T, T) of each layer, fp32: row t is what token t looks at."""

    hidden: list[Tensor] = field(default_factory=list)
    attention: list[Tensor] = field(default_factory=list)
    logits: Tensor | None = None  # (T, V)


@torch.no_grad()
def inside(net: Transformer, ids: Sequence[int]) -> Inside:
    """One text read in one pass, alone. BadInput for an empty one, or a model that reads two."""
    if not ids or net.encoder is not None:
        raise BadInput("give a text of one token or more" if not ids else "a model that reads two texts is not looked into yet")
    found, mixers = Inside(), [block.mixer for block in net.blocks if isinstance(block.mixer, Attention)]
    before = [mixer.across for mixer in mixers]
    hooks = [block.register_forward_pre_hook(lambda _, given: found.hidden.append(given[0][0])) for block in net.blocks]
    hooks.append(net.blocks[-1].register_forward_hook(lambda _, given, out: found.hidden.append(out[0])))
    try:
        for mixer in mixers:
            mixer.across = partial(_watched, found.attention, mixer.across or attend)
        found.logits = net.logits(net(torch.tensor([list(ids)], device=net.embed.weight.device)))[0]
    finally:
        for hook in hooks:
            hook.remove()
        for mixer, across in zip(mixers, before, strict=True):
            mixer.across = across
    return found


def _watched(
    told: list[Tensor], mix: Callable[..., Tensor], q_BTHE: Tensor, k_BTKE: Tensor, v_BTKE: Tensor, documents: Any, causal: bool,
    window: int, cap: float, scale: float, bias_HTT: Tensor | None, prefix: Any,
) -> Tensor:  # fmt: skip
    """Attention, whose weights are told besides; rows that the fused kernel takes come unscaled."""
    T, H, K = q_BTHE.shape[1], q_BTHE.shape[2], k_BTKE.shape[2]
    q = q_BTHE[0].float() * (scale if fused(documents, cap) and bias_HTT is None and prefix is None else 1.0)
    scores_HTT = torch.einsum("tkge,ske->kgts", q.view(T, K, H // K, -1), k_BTKE[0].float()).flatten(0, 1)
    scores_HTT = scores_HTT if bias_HTT is None else scores_HTT + bias_HTT
    scores_HTT = cap * torch.tanh(scores_HTT / cap) if cap else scores_HTT
    seen = visible(None, 0, T, q.device, window, causal)
    told.append(scores_HTT.masked_fill(~seen, float("-inf")).softmax(-1))
    return mix(q_BTHE, k_BTKE, v_BTKE, documents, causal, window, cap, scale, bias_HTT, prefix)
