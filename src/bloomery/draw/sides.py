"""Two texts side by side: which words they share in the same order, so that a reader sees a copy, and what was changed in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from bloomery.draw.numbers import count, percent, size

WORD = re.compile(r"\w+")
Piece = tuple[str, bool]  # some text, and whether the other side has it too


def aligned(left: str, right: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts in pieces; words are compared in lower case, and what stands between two shared ones goes with them."""
    words = [list(WORD.finditer(text)) for text in (left, right)]
    names = [[one[0].lower() for one in found] for found in words]
    shared: tuple[set[int], set[int]] = set(), set()
    for block in SequenceMatcher(None, *names, autojunk=False).get_matching_blocks():
        shared[0].update(range(block.a, block.a + block.size))
        shared[1].update(range(block.b, block.b + block.size))
    return _pieces(left, words[0], shared[0]), _pieces(right, words[1], shared[1])


def _pieces(text: str, words: Sequence[re.Match[str]], shared: set[int]) -> list[Piece]:
    marks = [False] * len(text)
    for i, word in enumerate(words):
        if i in shared:
            stop = words[i + 1].start() if i + 1 in shared else word.end()
            marks[word.start() : stop] = [True] * (stop - word.start())
    found: list[Piece] = []
    start = 0
    for at in range(1, len(text) + 1):
        if at == len(text) or marks[at] != marks[start]:
            found.append((text[start:at], marks[start]))
            start = at
    return found


def how(match: Mapping[str, Any]) -> str:
    """By what a match was found, in words."""
    ways = [f"{percent(match['share'])} of its runs of words"] if match["share"] is not None else []
    ways += [f"{percent(match['near'])} of its runs of five words in one passage"] if match["near"] is not None else []
    part = {"question": "question", "answer": "answer", "both": "question and answer"}[match["part"]]
    return f"{part}: {', '.join(ways)}"


def contamination(summary: Mapping[str, Any], matches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Values of the page contamination.html.j2: figures, a row for each evaluation set, and the matches side by side."""
    found, sought = (sum(one[name] for one in summary["sets"].values()) for name in ("found", "looked_for"))
    figures = [
        {"name": "items found", "value": count(found), "note": f"of {count(sought)} looked for", "main": True},
        {"name": "documents that hold one", "value": count(summary["leaking"]), "note": f"of {count(summary['documents'])}", "main": False},
        {"name": "text looked through", "value": size(summary["bytes"]), "note": "", "main": False},
        {"name": "matches", "value": count(summary["matches"]), "note": "pairs of an item's part and a document", "main": False},
    ]
    shown = []
    for match in matches:
        left, right = aligned(match["item_text"], match["document_text"])
        shown.append({**match, "how": how(match), "left": left, "right": right, "place": match["path"] or match["document"]})
    return {"figures": figures, "rules": summary["rules"], "sets": summary["sets"], "matches": shown, "total": summary["matches"],
            "unread": summary["unread"], "left_out": summary["left_out"], "written": summary["written"]}  # fmt: skip
