"""Log-probability of every token of a text.

Convention, the same as in training: a sequence is cut into pieces of `context` predictions, each piece starts anew at position 0,
and its first input is the last token predicted before. So every token but the first is predicted exactly once, by at most
`context` tokens before it. Pieces are packed into rows that never attend across each other, which changes no number.
Under filters it is the log-probability of what they make of the logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from bloomery.core.errors import BadInput
from bloomery.infer.filters import filtered, named, reads_tokens
from bloomery.nn.model import Transformer
from bloomery.seams import Filter

ROW_TOKENS = 4096  # tokens in one forward pass
HEAD_ROWS = 1024  # tokens whose logits exist at one time


def log_probabilities(
    net: Transformer, sequences: Sequence[Sequence[int] | np.ndarray], context: int | None = None, precision: torch.dtype | None = None,
    filters: Sequence[Filter] = (), others: Mapping[str, Transformer] | None = None,
) -> list[np.ndarray]:  # fmt: skip
    """Natural log-probability of tokens 1.. of each sequence, fp32, one shorter than the sequence (empty for fewer than two).

    `precision` (such as torch.bfloat16) is what matrix products are computed in; the softmax is fp32 in any case. Networks by role in
    `others` serve the filters that read them. BadInput for a filter that looks at the tokens before, which many positions at a time
    do not have, and for a model that sees more than those.
    """
    if strange := [type(one).__name__ for one in filters if reads_tokens([one])]:
        raise BadInput(f"{strange[0]} looks at the tokens before each token, so no text can be scored under it; leave it out")
    read = named(filters, others or {})
    if not all(one.cfg.predicts_next for one in (net, *read.values())):
        raise BadInput("a model that sees the tokens after a token, or that reads two texts, gives no log-probabilities of a text")
    length = context or min(one.cfg.context for one in (net, *read.values()))
    sequences = [np.asarray(ids, dtype=np.int64) for ids in sequences]
    scores = [np.zeros(max(len(ids) - 1, 0), dtype=np.float32) for ids in sequences]
    pieces = [(which, at, min(at + length, len(s))) for which, s in enumerate(scores) for at in range(0, len(s), length)]
    rows = pack([stop - start for _, start, stop in pieces], length)
    rows.sort(key=lambda row: -sum(pieces[k][2] - pieces[k][1] for k in row))
    together = max(1, ROW_TOKENS // length)
    device = net.embed.weight.device
    with torch.inference_mode(), torch.autocast(device.type, precision or torch.float32, enabled=precision is not None):
        for first in range(0, len(rows), together):
            group = [[pieces[k] for k in row] for row in rows[first : first + together]]
            found = _score_rows(net, sequences, group, device, filters, read)
            for row, values in zip(group, found, strict=True):
                at = 0
                for which, start, stop in row:
                    scores[which][start:stop] = values[at : at + stop - start]
                    at += stop - start
    return scores


def _score_rows(
    net: Transformer, sequences: list[np.ndarray], group: list[list[tuple[int, int, int]]], device: torch.device,
    filters: Sequence[Filter], others: Mapping[str, Transformer],
) -> np.ndarray:  # fmt: skip
    """(B, T) log-probabilities of the packed rows; padding holds numbers without meaning."""
    inputs, documents = laid([[sequences[which][start:stop] for which, start, stop in row] for row in group])
    targets, _ = laid([[sequences[which][start + 1 : stop + 1] for which, start, stop in row] for row in group])
    ids, wanted, numbers = (torch.from_numpy(x).to(device) for x in (inputs, targets, documents))
    hidden = net(ids, documents_BT=numbers).flatten(0, 1)
    parts = zip(hidden.split(HEAD_ROWS), wanted.flatten().split(HEAD_ROWS), strict=True)
    if not filters:
        return torch.cat([_chosen(net.logits(h), w) for h, w in parts]).view(ids.shape).cpu().numpy()
    theirs = {role: other(ids, documents_BT=numbers).flatten(0, 1).split(HEAD_ROWS) for role, other in others.items()}
    found = []
    for i, (h, w) in enumerate(parts):
        seen = {f"logits:{role}": others[role].logits(split[i]).float() for role, split in theirs.items()}
        found.append(_chosen(filtered(net.logits(h), None, filters, seen), w))
    return torch.cat(found).view(ids.shape).cpu().numpy()


def _chosen(logits_NV: Tensor, wanted_N: Tensor) -> Tensor:
    logits = logits_NV.float()
    return logits.gather(-1, wanted_N[:, None])[:, 0] - logits.logsumexp(-1)


def laid(rows: Sequence[Sequence[np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """(B, T) ids of each row's pieces one after the other, 0 after the last; and the number of every token's piece, -1 after the last."""
    longest = max(sum(map(len, row)) for row in rows)
    ids, documents = np.zeros((len(rows), longest), dtype=np.int64), np.full((len(rows), longest), -1, dtype=np.int64)
    for r, row in enumerate(rows):
        at = 0
        for number, piece in enumerate(row):
            ids[r, at : at + len(piece)], documents[r, at : at + len(piece)] = piece, number
            at += len(piece)
    return ids, documents


def pack(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Indices of `lengths` in rows of at most `room`: best fit, longest first; a length above `room` gets a row of its own."""
    by_space: dict[int, list[list[int]]] = {}
    rows: list[list[int]] = []
    for k in sorted(range(len(lengths)), key=lambda k: -lengths[k]):
        space = next((s for s in range(lengths[k], room + 1) if by_space.get(s)), None)
        row = by_space[space].pop() if space is not None else []
        if space is None:
            rows.append(row)
        row.append(k)
        by_space.setdefault((room if space is None else space) - lengths[k], []).append(row)
    return rows
