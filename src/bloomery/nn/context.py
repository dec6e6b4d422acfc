"""What all blocks of a pass share.

Shapes: B rows, T tokens, S tokens of a source, D width, H heads, E head width, X experts of a mixture, K experts that a token goes to.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor


class Context(NamedTuple):
    """Made once per pass by `Transformer.prepare`; blocks are called `block(x_BTD, ctx)`, mixers and feed-forwards likewise.

    `aux` is where a module leaves what a loss asked for, under a name, one entry for each layer in the order of the pass:

    - "router": pairs (probs_BTX, chosen_BTK) of a mixture of experts; `probs` fp32, with gradient, summing to 1 over all X experts of
      the layer, `chosen` int64 indices of the experts that each token went to, the most likely first unless
      a bias took part in the choice.

    A module writes `ctx.aux.setdefault(name, []).append(...)` where `aux` is not None, and nothing else. Every block is handed an empty
    dict of its own, which the model gathers afterwards, so that a compiled block sees the same in every layer.
    """

    cos: Tensor  # (B or 1, T, E / 2) fp32, of the positions; empty where nothing is rotated
    sin: Tensor
    documents: Tensor | None = None  # int32 (B, T): the piece that a token belongs to, -1 for padding; None: one per row
    aux: dict[str, list[Any]] | None = None
    bias: Tensor | None = None  # added to the scores, (H, T, T), where that is how positions are told
    prefix: Tensor | None = None  # bool (B, T): tokens that all of their document see, also those before them
    source: Tensor | None = None  # (B, S, D): what an encoder made of another text
    seen: Tensor | None = None  # bool (B, T, S): which of its tokens are seen; None: all
