"""Signal `length`: how long a document is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bloomery.seams import Doc, Tools


@dataclass(frozen=True)
class Length:
    """Characters, UTF-8 bytes, words between white space, and their mean length.

    Source: standard practice; word count and mean word length as in Rae et al. 2021, arXiv 2112.11446, table A1.
    Differs: nothing is rounded; a document without words has a mean of 0.
    Costs: one split per document.
    """

    def columns(self, docs: Sequence[Doc], tools: Tools | None) -> dict[str, Sequence[float]]:
        """characters, bytes, words, mean_word_length (characters)."""
        words = [doc.text.split() for doc in docs]
        return {
            "characters": [len(doc.text) for doc in docs],
            "bytes": [len(doc.text.encode("utf-8", "surrogatepass")) for doc in docs],
            "words": [len(found) for found in words],
            "mean_word_length": [sum(map(len, found)) / max(1, len(found)) for found in words],
        }
