"""Texts as vectors: the mean of a model's last hidden states over a text's tokens, of length 1.

Shapes: N texts, B rows, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from bloomery.core.errors import BadInput
from bloomery.infer.score import ROW_TOKENS, laid, pack
from bloomery.nn.model import Transformer


def embeddings(net: Transformer, sequences: Sequence[Sequence[int]]) -> np.ndarray:
    """(N, D) float32. Of a sequence beyond the context the beginning counts; texts that are read together change nothing in each other.
    BadInput for a sequence without tokens."""
    if not all(map(len, sequences)):
        raise BadInput("a text without tokens has no embedding; leave it out")
    pieces = [np.asarray(ids, dtype=np.int64)[: net.cfg.context] for ids in sequences]
    found = np.zeros((len(pieces), net.cfg.width), dtype=np.float32)
    rows = pack([len(piece) for piece in pieces], net.cfg.context)
    together = max(1, ROW_TOKENS // net.cfg.context)
    device = net.head_weight.device
    with torch.inference_mode():
        for first in range(0, len(rows), together):
            group = rows[first : first + together]
            ids_BT, numbers_BT = (torch.from_numpy(x).to(device) for x in laid([[pieces[k] for k in row] for row in group]))
            hidden_BTD = net(ids_BT, documents_BT=numbers_BT).float()
            for b, row in enumerate(group):
                for number, k in enumerate(row):
                    mean_D = hidden_BTD[b, numbers_BT[b] == number].mean(0)
                    found[k] = torch.nn.functional.normalize(mean_D, dim=0).cpu().numpy()
    return found
