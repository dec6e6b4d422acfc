"""Signal `compression`: how much smaller a document gets."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from bloomery.seams import Doc, Tools


@dataclass(frozen=True)
class Compression:
    """Bytes of a document after DEFLATE for each of its bytes: low for text that repeats itself, near or above 1 for noise.

    Source: standard practice; as a measure of the diversity of text in Shaib et al. 2024, arXiv 2403.00553.
    Differs: of one document, not of a set; short documents never compress well, so compare those of like length.
    Costs: one pass of zlib.
    """

    level: int = 6  # of zlib, 1 fast to 9 small

    def __post_init__(self) -> None:
        if not 1 <= self.level <= 9:
            raise ValueError("level must be from 1 to 9")

    def columns(self, docs: Sequence[Doc], tools: Tools | None) -> dict[str, Sequence[float]]:
        """ratio (compressed bytes over bytes; 0 for an empty document)."""
        found = []
        for doc in docs:
            data = doc.text.encode("utf-8", "surrogatepass")
            found.append(len(zlib.compress(data, self.level)) / len(data) if data else 0.0)
        return {"ratio": found}
