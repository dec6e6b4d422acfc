"""Edit `boilerplate`: the lines of a web page that are not its text go."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bloomery.data.spans import Change, changed
from bloomery.seams import Doc, Drop, Rng, Tools

CITATION = re.compile(r"\[(?:[0-9]{0,9}|edit|citation needed)\]")
ENDS = (".", "?", "!", '"', "'")


@dataclass(frozen=True)
class Boilerplate:
    """Keeps the lines that are sentences, as C4 does: they end in a stop, have some words, and no phrase of menus and notices.

    Source: Raffel et al. 2020, arXiv 1910.10683, section 2.2; further rules of its published code as in Penedo et al. 2024, datatrove.
    Differs: only removes lines and citations; what drops whole pages is the signal `c4` with `keep`. Lines end at line feeds. A line is
        judged again without its citations, and what they leave may be one.
    Costs: one split per document, two where it has citations.
    """

    terminal: bool = True  # a line must end in a stop, and not in an ellipsis
    words: int = 3  # words of a line at least
    longest_word: int = 1000  # characters; a line with a longer one goes
    phrases: tuple[str, ...] = (
        "javascript",
        "terms of use",
        "privacy policy",
        "cookie policy",
        "uses cookies",
        "use of cookies",
        "use cookies",
    )  # small letters; a line with one of them goes
    citations: bool = True  # [1], [edit] and [citation needed] go from lines that stay

    def edit(self, doc: Doc, tools: Tools | None, rng: Rng) -> list[Doc] | Drop:
        """The document itself where nothing goes, dropped where nothing stays."""
        clean, again = doc, True
        while again:
            clean, again = self._once(clean)
        return [clean] if clean.text.strip() or not doc.text.strip() else Drop("nothing left")

    def _once(self, doc: Doc) -> tuple[Doc, bool]:
        """The document after one look at its lines, and whether citations went."""
        changes: list[Change] = []
        at = cited = 0
        for line in doc.text.split("\n"):
            stop = min(len(doc.text), at + len(line) + 1)
            if self._stays(line):
                if self.citations and "[" in line:
                    found = [(at + one.start(), at + one.end(), "") for one in CITATION.finditer(line)]
                    changes += found
                    cited += len(found)
            else:
                changes.append((at, stop, ""))
            at = stop
        return changed(doc, changes), cited > 0

    def _stays(self, line: str) -> bool:
        bare, words = line.strip(), line.split()
        if self.citations and "[" in bare:
            bare = CITATION.sub("", bare)
        if len(words) < self.words or max(map(len, words), default=0) > self.longest_word:
            return False
        if self.terminal and (not bare.endswith(ENDS) or bare.endswith("...")):
            return False
        small = bare.lower()
        return not any(phrase in small for phrase in self.phrases)
