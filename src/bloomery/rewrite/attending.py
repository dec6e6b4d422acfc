"""What an attention multiplies, shown to a method that finds grids for it.

Shapes: B rows, T tokens, H query heads, K key heads, E head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bloomery.nn.attention import Attention, attend, fused, visible
from bloomery.rewrite.passing import State
from bloomery.seams import Compress

SEEN = 8  # sequences that are shown, about


@torch.no_grad()
def attending(block: nn.Module, states: Sequence[State], method: Compress) -> str:
    """Lets the attention of a block round as `method` says of what it multiplies on some sequences; why not, where it cannot."""
    mixer, seen, lengths = block.mixer, [], []
    if type(mixer) is not Attention:
        return f"a {type(mixer).__name__}, whose sites the method does not know"

    def look(q: Tensor, k: Tensor, v: Tensor, *how: Any) -> Tensor:
        parts = shown(q.float(), k.float(), v.float(), *how)
        for i, n in enumerate(lengths):  # without the padding, which is at the end
            seen.append({name: t[i][:, :n, :n] if name == "weights" else t[i][:n] for name, t in parts.items()})
        return attend(q, k, v, *how)

    mixer.across = look
    try:
        for one in states:
            rows = slice(0, SEEN - len(seen))
            ctx = one.context(block)
            own = ctx if ctx.source is None else ctx._replace(source=ctx.source[rows])
            x_BTD = one.x_BTD[rows].float()
            lengths[:] = [x_BTD.shape[1]] * len(x_BTD) if one.counts is None else one.counts[rows].sum(1).tolist()
            block(x_BTD, own)
            if len(seen) >= SEEN:
                break
    finally:
        mixer.across = None
    mixer.rounds = method.attend(seen)
    return ""


def shown(
    q_BTHE: Tensor, k_BTKE: Tensor, v_BTKE: Tensor, documents_BT: Tensor | None, causal: bool, window: int, cap: float, scale: float,
    bias_HTT: Tensor | None = None, prefix_BT: Tensor | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """Queries before they are scaled, keys, values, and the attention weights (B, H, T, T)."""
    if not (fused(documents_BT, cap) and bias_HTT is None and prefix_BT is None):
        q_BTHE = q_BTHE / scale
    heads = q_BTHE.shape[2] // k_BTKE.shape[2]
    scores = torch.einsum("bthe,bshe->bhts", q_BTHE * scale, k_BTKE.repeat_interleave(heads, dim=2))
    if bias_HTT is not None:
        scores = scores + bias_HTT
    scores = cap * torch.tanh(scores / cap) if cap else scores
    seen = visible(documents_BT, 0, scores.shape[-1], scores.device, window, causal)
    return {"q": q_BTHE, "k": k_BTKE, "v": v_BTKE, "weights": scores.masked_fill(~seen[:, None], -torch.inf).softmax(-1)}
