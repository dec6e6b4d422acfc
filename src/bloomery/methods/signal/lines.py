"""Signal `lines`: the shape of a document's lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bloomery.seams import Doc, Tools


@dataclass(frozen=True)
class Lines:
    """Number of lines, their mean and longest length in characters, and the share of empty ones.

    Source: standard practice; mean and longest line are the filters of code corpora since Chen et al. 2021, arXiv 2107.03374.
    Differs: lines end at line feeds alone, and one at the very end begins no further line; empty = only white space.
    Costs: one split per document.
    """

    def columns(self, docs: Sequence[Doc], tools: Tools | None) -> dict[str, Sequence[float]]:
        """count, mean_length, longest (characters), empty (share of lines)."""
        columns: dict[str, list[float]] = {"count": [], "mean_length": [], "longest": [], "empty": []}
        for doc in docs:
            lines = doc.text.removesuffix("\n").split("\n") if doc.text else []
            lengths = [len(line) for line in lines]
            count = len(lines)
            columns["count"].append(count)
            columns["mean_length"].append(sum(lengths) / max(1, count))
            columns["longest"].append(max(lengths, default=0))
            columns["empty"].append(sum(not line or line.isspace() for line in lines) / max(1, count))
        return columns
