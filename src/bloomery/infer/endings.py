"""Log-likelihood of endings: how likely some last tokens of a sequence are, and whether greedy decoding would have written them.

Sequences that differ in their last token alone, such as the letters that a question may be answered with, are read once, and logits
are computed at the endings alone.

Shapes: B rows, T tokens, V vocabulary, N places whose next token is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bloomery.core.errors import BadInput
from bloomery.infer.decoder import filtered, named
from bloomery.infer.score import HEAD_ROWS, ROW_TOKENS, laid, pack
from bloomery.nn.model import Transformer
from bloomery.seams import Filter


@dataclass(frozen=True)
class Likelihood:
    """`logp` is the natural log-probability of the whole ending, `greedy` whether each of its tokens is the likeliest there."""

    logp: float
    greedy: bool


def likelihoods(
    net: Transformer, asked: Sequence[tuple[Sequence[int], int]], filters: Sequence[Filter] = (),
    others: Mapping[str, Transformer] | None = None,
) -> list[Likelihood]:  # fmt: skip
    """Of each (ids, start) the likelihood of ids[start:] after ids[:start], in the order given.

    Under filters it is that of what they make of the logits. BadInput where nothing stands before an ending, an ending is empty, or the
    inputs are more than the context holds.
    """
    read = named(filters, others or {})
    context = min(one.cfg.context for one in (net, *read.values()))
    for ids, start in asked:
        if not 0 < start < len(ids) or len(ids) - 1 > context:
            raise BadInput(f"{len(ids)} tokens of which those from {start} on are asked do not fit a context of {context}; cut them before")
    alike: dict[tuple[int, ...], list[int]] = {}
    for which, (ids, _) in enumerate(asked):
        alike.setdefault(tuple(ids[:-1]), []).append(which)
    inputs = list(alike)
    rows = sorted(pack([len(ids) for ids in inputs], context), key=lambda row: -sum(len(inputs[k]) for k in row))
    together, found = max(1, ROW_TOKENS // context), [Likelihood(0.0, True)] * len(asked)
    for first in range(0, len(rows), together):
        group = [[inputs[k] for k in row] for row in rows[first : first + together]]
        members = [alike[ids] for row in group for ids in row]
        for which, one in _read(net, group, members, asked, filters, read):
            found[which] = one
    return found


@torch.inference_mode()
def _read(
    net: Transformer, group: Sequence[Sequence[tuple[int, ...]]], members: Sequence[Sequence[int]],
    asked: Sequence[tuple[Sequence[int], int]], filters: Sequence[Filter], others: Mapping[str, Transformer],
) -> list[tuple[int, Likelihood]]:  # fmt: skip
    """The rows in one forward pass; `members` are the endings of each piece, in the order of the pieces."""
    ids, documents = laid([[np.array(piece, dtype=np.int64) for piece in row] for row in group])
    device = net.head_weight.device
    ids_BT, documents_BT = (torch.from_numpy(x).to(device) for x in (ids, documents))
    begins = [(r, at) for r, row in enumerate(group) for at in np.cumsum([0, *map(len, row)])[:-1].tolist()]
    places: list[tuple[int, int]] = []  # row and position of every place that is looked at
    wanted: list[tuple[int, int, int]] = []  # which, number of the place, token
    for (r, begin), mine in zip(begins, members, strict=True):
        first = min(asked[which][1] for which in mine)
        offset = len(places) - (first - 1)
        places += [(r, begin + at) for at in range(first - 1, len(asked[mine[0]][0]) - 1)]
        wanted += [
            (which, offset + at, asked[which][0][at + 1]) for which in mine for at in range(asked[which][1] - 1, len(asked[which][0]) - 1)
        ]
    row_N, at_N = (torch.tensor(one, device=device) for one in zip(*places, strict=True))
    hidden_ND = net(ids_BT, documents_BT=documents_BT)[row_N, at_N]
    theirs = {role: (other, other(ids_BT, documents_BT=documents_BT)[row_N, at_N]) for role, other in others.items()}
    logp, likeliest = np.zeros(len(wanted)), np.zeros(len(wanted), dtype=bool)
    which_W, place_W, token_W = (np.array(one) for one in zip(*wanted, strict=True))
    for begin in range(0, len(places), HEAD_ROWS):
        here = slice(begin, begin + HEAD_ROWS)
        logits_NV = net.logits(hidden_ND[here]).float()
        if filters:
            seen = {f"logits:{role}": other.logits(hidden[here]).float() for role, (other, hidden) in theirs.items()}
            logits_NV = filtered(logits_NV, None, filters, seen)
        mine = np.flatnonzero((place_W >= begin) & (place_W < begin + HEAD_ROWS))
        at, token = (torch.from_numpy(x[mine]).to(device) for x in (place_W - begin, token_W))
        logp[mine] = logits_NV.log_softmax(-1)[at, token].cpu().numpy()
        likeliest[mine] = (logits_NV.argmax(-1)[at] == token).cpu().numpy()
    return [
        (which, Likelihood(float(logp[which_W == which].sum()), bool(likeliest[which_W == which].all())))
        for which in dict.fromkeys(which_W.tolist())
    ]
