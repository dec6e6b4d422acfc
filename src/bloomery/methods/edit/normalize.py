"""Edit `normalize`: the same text always in the same characters."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace

from bloomery.data.spans import changed
from bloomery.seams import Doc, Drop, Rng, Tools

BLANKS = (" ", "\t")
ENDINGS = (" \n", "\t\n")
TRAILING = re.compile(r"(?<![ \t])[ \t]+(?=\n|\Z)")


@dataclass(frozen=True)
class Normalize:
    """Line ends become line feeds, characters are composed, byte order marks and spaces at line ends go.

    Source: standard practice; composition is NFC of Unicode Standard Annex 15.
    Differs: compatibility forms (NFKC) stay as they are, because they change meaning.
    Costs: a few passes per document; a document with trained spans takes longer, as they stay on what they marked.
    """

    newlines: bool = True  # carriage returns, alone or before a line feed, become line feeds
    compose: bool = True  # Unicode NFC
    mark: bool = True  # remove byte order marks at the start: joined files leave several
    trailing: bool = True  # remove spaces and tabs at the end of lines

    def edit(self, doc: Doc, tools: Tools | None, rng: Rng) -> list[Doc] | Drop:
        """The document itself when nothing changes, else one with the new text and its spans moved along."""
        if doc.spans:
            return [self._marked(doc)]
        text = doc.text
        if self.mark:
            text = text.lstrip("\ufeff")
        if self.newlines and "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        if self.trailing and (text.endswith(BLANKS) or any(ending in text for ending in ENDINGS)):
            text = "\n".join(line.rstrip(" \t") for line in text.split("\n"))
        if self.compose and not text.isascii():
            text = unicodedata.normalize("NFC", text)
        return [doc] if text == doc.text else [replace(doc, text=text)]

    def _marked(self, doc: Doc) -> Doc:
        """The same text by single changes, for the sake of the spans."""
        if self.mark and (marks := len(doc.text) - len(doc.text.lstrip("\ufeff"))):
            doc = changed(doc, [(0, marks, "")])
        if self.newlines and "\r" in doc.text:
            doc = changed(doc, [(one.start(), one.end(), "\n") for one in re.finditer(r"\r\n?", doc.text)])
        if self.trailing:
            doc = changed(doc, [(one.start(), one.end(), "") for one in TRAILING.finditer(doc.text)])
        if self.compose and not doc.text.isascii():
            doc = changed(doc, [(start, stop, new) for start, stop, new in _composed(doc.text)])
        return doc


def _composed(text: str) -> list[tuple[int, int, str]]:
    """Pieces that NFC changes: each from a character that begins a composition to before the next one that does."""
    found, start = [], 0
    for at in range(1, len(text) + 1):
        if at == len(text) or _begins(text[at]):
            piece = text[start:at]
            new = unicodedata.normalize("NFC", piece)
            if new != piece:
                found.append((start, at, new))
            start = at
    return found


def _begins(c: str) -> bool:
    """Whether nothing before a character can change with it: no mark, nor the second half of a pair (Hangul vowels and finals, and
    the few letters that compose with the one before)."""
    return c.isascii() or (not unicodedata.combining(c) and unicodedata.category(c)[0] != "M" and not "\u1161" <= c <= "\u11ff")
