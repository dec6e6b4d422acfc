"""Log-likelihood of endings: how likely some last tokens of a sequence are, and whether greedy decoding would have written them.

Sequences that differ in their last token alone, such as the letters that a question may be answered with, are read once, and logits
are computed at the endings alone. Rows of similar length are read together, each with padding at its end, which no token before it sees:
that needs no mask, and costs less than rows packed to the context, whose tokens look at all of the row.

Shapes: B rows, T tokens, V vocabulary, N places whose next token is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bloomery.core.errors import BadInput
from bloomery.infer.filters import filtered, named
from bloomery.infer.score import HEAD_ROWS, ROW_TOKENS, laid
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
    found = [Likelihood(0.0, True)] * len(asked)
    inputs = sorted(alike, key=len, reverse=True)
    while inputs:
        together = max(1, ROW_TOKENS // len(inputs[0]))
        group, inputs = inputs[:together], inputs[together:]
        for which, one in _read(net, group, [alike[ids] for ids in group], asked, filters, read):
            found[which] = one
    return found


@torch.inference_mode()
def _read(
    net: Transformer, rows: Sequence[tuple[int, ...]], members: Sequence[Sequence[int]],
    asked: Sequence[tuple[Sequence[int], int]], filters: Sequence[Filter], others: Mapping[str, Transformer],
) -> list[tuple[int, Likelihood]]:  # fmt: skip
    """The rows in one forward pass; `members` are the endings of each."""
    ids, documents = laid([[np.array(row, dtype=np.int64)] for row in rows])
    device = net.embed.weight.device
    ids_BT, numbers_BT = (torch.from_numpy(x).to(device) for x in (ids, documents))
    documents_BT = None if net.cfg.causal else numbers_BT
    places: list[tuple[int, int]] = []  # row and position of every place that is looked at
    wanted: list[tuple[int, int, int]] = []  # which, number of the place, token
    for r, mine in enumerate(members):
        first = min(asked[which][1] for which in mine)
        offset = len(places) - (first - 1)
        places += [(r, at) for at in range(first - 1, len(asked[mine[0]][0]) - 1)]
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
