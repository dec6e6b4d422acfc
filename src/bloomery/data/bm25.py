"""Documents ranked by BM25, through the package bm25s."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from bloomery.core.errors import BadInput


class Bm25:
    """An index over texts in memory; words in small letters, neither stemmed nor stopped.

    Source: Robertson & Zaragoza 2009, doi 10.1561/1500000019, in Lucene's form, k1 1.5 and b 0.75.
    """

    def __init__(self, texts: Sequence[str], who: str) -> None:
        """BadInput, in the name of who asks, where the package is missing or there is no text."""
        try:
            from bm25s import BM25
        except ModuleNotFoundError:
            raise BadInput(f"{who} needs the package bm25s: pip install -c constraints.txt 'bloomery[retrieval]'") from None
        if not any(map(words, texts)):
            raise BadInput(f"{who}: there is no document with a word in it to be searched")
        self.size = len(texts)
        self.inner: Any = BM25(method="lucene", k1=1.5, b=0.75)
        self.inner.index([words(text) for text in texts], show_progress=False)

    def best(self, query: str, count: int) -> list[int]:
        """Places of the best documents, best first, of equals the earlier; those that share no word with the query are left out."""
        known = [word for word in words(query) if word in self.inner.vocab_dict]
        if not known:
            return []
        scores = self.inner.get_scores(known)
        order = sorted(range(self.size), key=lambda i: (-scores[i], i))
        return [i for i in order[:count] if scores[i] > 0]


def words(text: str) -> list[str]:
    """Words in small letters."""
    return re.findall(r"\w+", text.lower())
