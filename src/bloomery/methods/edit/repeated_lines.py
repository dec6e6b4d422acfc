"""Edit `repeated_lines`: lines that a document says again and again go."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from bloomery.data.spans import Change, changed
from bloomery.seams import Doc, Drop, Rng, Tools


@dataclass(frozen=True)
class RepeatedLines:
    """Lines that came before in the same document are removed, with their line feeds; blank and short lines stay.

    Source: standard practice; repeated lines are removed within a document since Wenzek et al. 2019, arXiv 1911.00359 (CCNet).
    Differs: within one document, not over a corpus, so nothing depends on which documents came before.
    Costs: one split per document.
    """

    shortest: int = 20  # characters, white space at both ends aside, from which on a line is looked at
    times: int = 1  # how often a line may stand

    def __post_init__(self) -> None:
        if self.shortest < 1 or self.times < 1:
            raise ValueError("shortest and times must be at least 1")

    def edit(self, doc: Doc, tools: Tools | None, rng: Rng) -> list[Doc] | Drop:
        """The document itself where no line repeats; order and all else stay."""
        seen: Counter[str] = Counter()
        changes: list[Change] = []
        at = 0
        for line in doc.text.split("\n"):
            stop = min(len(doc.text), at + len(line) + 1)
            bare = line.strip()
            if len(bare) >= self.shortest:
                seen[bare] += 1
                if seen[bare] > self.times:
                    changes.append((at, stop, ""))
            at = stop
        return [changed(doc, changes)]
