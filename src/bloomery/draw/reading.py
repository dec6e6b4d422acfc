"""Reading a finished page back: unbalanced tags, references to elsewhere, its words, the exact numbers of its funnels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "br", "hr", "img", "link", "input", "col", "wbr", "source"}


class Seen(HTMLParser):
    """What a finished page holds: unbalanced tags, references to elsewhere, its words, its copies, the exact numbers of its funnels."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.outside: list[str] = []
        self.words: list[str] = []
        self.funnels: dict[str, list[dict[str, int | str]]] = {}
        self.copies: list[str] = []
        self._of = ""

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self._note(tag, dict(attrs))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            self.wrong.append(f"</{tag}> inside <{self.open[-1] if self.open else ''}>")

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.open and self.open[-1] == "style" and ("url(" in data or "@import" in data):
            self.outside.append("style sheet")

    def _note(self, tag: str, attrs: dict[str, str | None]) -> None:
        for name in ("src", "href", "srcset", "xlink:href", "action", "data"):
            if (attrs.get(name) or "#")[:1] != "#":
                self.outside.append(f"{tag} {name}={attrs[name]}")
        if tag == "table" and "data-of" in attrs:
            self._of = attrs["data-of"] or ""
            self.funnels[self._of] = []
        elif tag == "tr" and "data-copy" in attrs:
            self.copies.append(attrs["data-copy"] or "")
        elif tag == "tr" and "data-part" in attrs:
            self.funnels[self._of].append({"part": attrs["data-part"] or ""})
        elif tag == "data" and self.funnels.get(self._of):
            self.funnels[self._of][-1][attrs.get("class") or ""] = int(attrs.get("value") or 0)


def read_page(page: str) -> Seen:
    """Parse a page; tags still open at its end count as wrong."""
    seen = Seen()
    seen.feed(page)
    seen.close()
    seen.wrong += [f"<{tag}> never closed" for tag in seen.open]
    return seen


def balance(funnel: Sequence[Mapping[str, Any]], unit: str) -> int:
    """Read, less dropped, less kept: 0 where the numbers shown add up."""
    sign = {"in": 1, "drop": -1, "out": -1}
    return sum(sign[row["part"]] * row.get(unit, 0) for row in funnel)
