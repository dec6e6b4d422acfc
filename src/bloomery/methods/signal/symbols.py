"""Signal `symbols`: what kinds of characters a document is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bloomery.data.codes import ALPHA, DIGIT, pack
from bloomery.data.compiled import compiled
from bloomery.seams import Doc, Tools


@compiled
def _count(codes, offsets, table, out):  # type: ignore[no-untyped-def]
    """How many characters of each class every text has: out[text, class]."""
    for d in range(offsets.shape[0] - 1):
        for i in range(offsets[d], offsets[d + 1]):
            out[d, table[codes[i]]] += 1


@dataclass(frozen=True)
class Symbols:
    """Shares of the characters that are letters, digits, or neither of these nor white space.

    Source: standard practice; the alphabetic share is a rule of Rae et al. 2021, arXiv 2112.11446, table A1.
    Differs: shares of characters, not of words; exact for all of Unicode (str.isalpha, str.isdigit, str.isspace).
    Costs: one pass over the characters.
    """

    def columns(self, docs: Sequence[Doc], tools: Tools | None) -> dict[str, Sequence[float]]:
        """alphabetic, digit, symbol (shares of characters)."""
        found = np.zeros((len(docs), 3))
        for rows, codes, offsets, table in pack([doc.text for doc in docs]):
            counts = np.zeros((len(rows), 8), np.int64)
            _count(codes, offsets, table, counts)
            found[rows] = counts[:, [ALPHA, DIGIT, 0]] / np.maximum(1, np.diff(offsets))[:, None]
        return {"alphabetic": found[:, 0], "digit": found[:, 1], "symbol": found[:, 2]}
