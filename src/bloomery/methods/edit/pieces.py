"""Edit `pieces`: a long document becomes several."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from bloomery.seams import Doc, Drop, Rng, Tools

BREAKS = ("\n\n", "\n", " ")  # where a text is cut rather than anywhere, the best first


@dataclass(frozen=True)
class Pieces:
    """Cuts a document into pieces of a bounded length, behind a paragraph, else a line, else a word, where there is one.

    Source: standard practice; documents are cut at boundaries of text in retrieval corpora since Karpukhin et al. 2020, arXiv 2004.04906.
    Differs: nothing is lost or doubled: the pieces in order are the document.
    Costs: one search for a boundary for each piece.
    """

    longest: int = 8000  # characters of a piece at most
    shortest: int = 0  # a last piece with fewer characters stays with the one before, which may then be longer by so much

    def __post_init__(self) -> None:
        if self.longest < 1 or not 0 <= self.shortest <= self.longest:
            raise ValueError("longest must be at least 1, and shortest from 0 to longest")

    def edit(self, doc: Doc, tools: Tools | None, rng: Rng) -> list[Doc] | Drop:
        """The document itself where it is short enough, else its pieces, with :0, :1, ... behind the id and each its part of the spans."""
        cuts = self._cuts(doc.text)
        if len(cuts) == 2:
            return [doc]
        made = []
        for number, (start, stop) in enumerate(pairwise(cuts)):
            inside = [(max(a, start) - start, min(b, stop) - start, weight) for a, b, weight in doc.spans if a < stop and b > start]
            spans = inside if inside or not doc.spans else [(0, stop - start, 0.0)]  # no spans at all would mean: train on all of it
            made.append(Doc(f"{doc.id}:{number}", doc.text[start:stop], {**doc.meta, "piece": number}, spans))
        return made

    def _cuts(self, text: str) -> list[int]:
        """Where pieces begin, and the end."""
        cuts = [0]
        while (left := len(text) - cuts[-1]) > self.longest and left - self.longest >= self.shortest:
            start, stop = cuts[-1], cuts[-1] + self.longest
            for mark in BREAKS:
                place = text.rfind(mark, start + self.longest // 2, stop)
                if place >= 0:
                    stop = place + len(mark)
                    break
            cuts.append(stop)
        return [*cuts, len(text)]
