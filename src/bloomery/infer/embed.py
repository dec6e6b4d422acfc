"""A text as one vector: a mean of a model's hidden states after the final norm.

Shapes: N texts, B rows, T tokens, D width. A text longer than the context is cut into pieces of `context` tokens, each of which starts
anew; the weights of a mean go on counting through the whole text. Pieces of several texts are packed into rows that never attend across
each other, so that neighbours change nothing but the last digits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from bloomery.core.errors import BadInput
from bloomery.infer.asks import Stopped
from bloomery.infer.score import ROW_TOKENS, laid, pack
from bloomery.nn.model import Transformer

POOLINGS = ("weighted", "mean")


def pooled(
    net: Transformer, sequences: Sequence[Sequence[int] | np.ndarray], pooling: str = "weighted", going: Callable[[], bool] = lambda: True
) -> np.ndarray:
    """The vector of each token sequence, (N, D) float32.

    `weighted`: the state of token t of a text, counted from 1, weighs t (Muennighoff 2022, arXiv 2202.08904): under causal attention
    later states have seen more. `mean`: all weigh the same. A sequence of no tokens is a vector of zeros. BadInput for another pooling,
    and for a model that reads two texts; Stopped once `going`, which is asked before every pass, says no.
    """
    if pooling not in POOLINGS:
        raise BadInput(f"there is no pooling {pooling!r}; known: {', '.join(POOLINGS)}")
    if net.encoder is not None:
        raise BadInput("a model that reads two texts gives no vector of one; name a model of one stack")
    length = net.cfg.context
    sequences = [np.asarray(ids, dtype=np.int64) for ids in sequences]
    pieces = [(which, at, min(at + length, len(ids))) for which, ids in enumerate(sequences) for at in range(0, len(ids), length)]
    rows = pack([stop - start for _, start, stop in pieces], length)
    rows.sort(key=lambda row: -sum(pieces[k][2] - pieces[k][1] for k in row))
    sums, together = np.zeros((len(sequences), net.cfg.width)), max(1, ROW_TOKENS // length)
    with torch.inference_mode():
        for first in range(0, len(rows), together):
            if not going():
                raise Stopped("nobody waits for these vectors")
            _add(net, sequences, [[pieces[k] for k in row] for row in rows[first : first + together]], pooling, sums)
    sizes = np.array([len(ids) for ids in sequences], np.float64)
    totals = sizes * (sizes + 1) / 2 if pooling == "weighted" else sizes
    return (sums / np.maximum(totals, 1)[:, None]).astype(np.float32)


def _add(net: Transformer, sequences: list[np.ndarray], group: list[list[tuple[int, int, int]]], pooling: str, sums: np.ndarray) -> None:
    """Add the weighted states of the pieces of some rows to the sums of their texts."""
    inputs, documents = laid([[sequences[which][start:stop] for which, start, stop in row] for row in group])
    device = net.embed.weight.device
    ids, numbers = (torch.from_numpy(x).to(device) for x in (inputs, documents))
    hidden_BTD = net(ids, documents_BT=numbers).float().cpu().numpy()
    for row, states_TD in zip(group, hidden_BTD, strict=True):
        at = 0
        for which, start, stop in row:
            weights = np.arange(start + 1.0, stop + 1.0) if pooling == "weighted" else np.ones(stop - start)
            sums[which] += weights @ states_TD[at : at + stop - start]
            at += stop - start
