"""Edit `normalize`: the same text always in the same characters."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace

from bloomery.seams import Doc, Drop, Rng, Tools

BLANKS = (" ", "\t")
ENDINGS = (" \n", "\t\n")


@dataclass(frozen=True)
class Normalize:
    """Line ends become line feeds, characters are composed, byte order marks and spaces at line ends go.

    Source: standard practice; composition is NFC of Unicode Standard Annex 15.
    Differs: compatibility forms (NFKC) stay as they are, because they change meaning.
    Costs: a few passes per document; trained spans are dropped when the text changes under them.
    """

    newlines: bool = True  # carriage returns, alone or before a line feed, become line feeds
    compose: bool = True  # Unicode NFC
    mark: bool = True  # remove a byte order mark at the start
    trailing: bool = True  # remove spaces and tabs at the end of lines

    def edit(self, doc: Doc, tools: Tools | None, rng: Rng) -> list[Doc] | Drop:
        """The document itself when nothing changes, else one with the new text."""
        text = doc.text
        if self.mark:
            text = text.removeprefix("\ufeff")
        if self.newlines and "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        if self.trailing and (text.endswith(BLANKS) or any(ending in text for ending in ENDINGS)):
            text = "\n".join(line.rstrip(" \t") for line in text.split("\n"))
        if self.compose and not text.isascii():
            text = unicodedata.normalize("NFC", text)
        return [doc] if text == doc.text else [replace(doc, text=text, spans=[])]
