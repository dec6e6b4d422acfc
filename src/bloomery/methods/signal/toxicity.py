"""Signal `toxicity`: words of abuse, hate, sex and violence in a document."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bloomery.core.errors import BadInput
from bloomery.seams import Doc, Tools

# stems of a short list of our own; a stem ends in * where endings may follow
BUILT_IN = (
    "asshole*", "bastard*", "bitch*", "bollocks", "bullshit*", "cunt*", "dickhead*", "fuck*", "motherfuck*", "piss off", "shit", "shits",
    "shitty", "slut*", "twat*", "wanker*", "whore*", "blowjob*", "cumshot*", "gangbang*", "handjob*", "hardcore porn*", "masturbat*",
    "porn", "porno*", "pornhub", "xxx video*", "kill yourself", "subhuman*", "white power", "gas the", "ethnic cleansing is good",
)  # fmt: skip
FEW = 64  # phrases that are searched for one by one
WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
STEM = re.compile(WORD.pattern + r"(?:\*(?=\s|$))?")


@dataclass(frozen=True)
class Toxicity:
    """Words and phrases of a list that a document holds: their number and their share of the words.

    Source: standard practice; a word list drops pages since Raffel et al. 2020, arXiv 1910.10683 (C4), and is a signal of RedPajama-V2.
    Differs: the built-in list is short and of our own, English only, and no judgement of context: it counts words that are quoted,
        too. For the list that C4 used, name its file: marks within a phrase part words, as in a document (s&m is two of them), and
        a line of marks alone is not looked for.
    Costs: one search for each phrase of a list of 64 or fewer; a pass over the words where one may be there, or for a longer list.
    """

    words: str = ""  # a text file with a word or phrase on each line, * at its end for any ending; empty: the built-in list
    outside = ("words",)

    def columns(self, docs: Sequence[Doc], tools: Tools | None) -> dict[str, Sequence[float]]:
        """count, share (of words)."""
        phrases, stems = _listed(self.words)
        parts = [[word.rstrip("*") for word in phrase] for some in phrases.values() for phrase in some]
        rows = []
        for doc in docs:
            text = doc.text.lower().replace("’", "'")
            clean = len(parts) <= FEW and not any(all(part in text for part in phrase) for phrase in parts)  # without cutting words
            rows.append((0, 0) if clean else _count(WORD.findall(text), phrases, stems))
        return {"count": [float(count) for count, _ in rows], "share": [count / max(1, words) for count, words in rows]}


def _listed(place: str) -> tuple[dict[str, tuple[tuple[str, ...], ...]], frozenset[int]]:
    """The phrases of a file as it is now, or the built-in ones."""
    try:
        return _parsed(tuple(Path(place).read_text(encoding="utf-8").splitlines()) if place else BUILT_IN)
    except (OSError, UnicodeDecodeError) as wrong:
        raise BadInput(f"toxicity.words: {place} cannot be read ({wrong}); name a text file with a word on each line") from None


@lru_cache(maxsize=4)
def _parsed(lines: tuple[str, ...]) -> tuple[dict[str, tuple[tuple[str, ...], ...]], frozenset[int]]:
    """Phrases by their first word, or by its stem with a *; and the lengths of those stems."""
    phrases: dict[str, list[tuple[str, ...]]] = {}
    for line in lines:
        parts = tuple(STEM.findall(line.lower().replace("’", "'")))
        if parts:
            phrases.setdefault(parts[0], []).append(parts)
    return {first: tuple(some) for first, some in phrases.items()}, frozenset(len(one) - 1 for one in phrases if one.endswith("*"))


def _fits(word: str, wanted: str) -> bool:
    return word.startswith(wanted[:-1]) if wanted.endswith("*") else word == wanted


def _count(words: list[str], phrases: dict[str, tuple[tuple[str, ...], ...]], stems: frozenset[int]) -> tuple[int, int]:
    """How many places a phrase begins at, and how many words there are."""
    count = 0
    for at, word in enumerate(words):
        keys = [word, *(word[:size] + "*" for size in stems if size <= len(word))]
        candidates = [phrase for key in keys if key in phrases for phrase in phrases[key]]
        count += any(
            at + len(phrase) <= len(words) and all(_fits(words[at + k], wanted) for k, wanted in enumerate(phrase)) for phrase in candidates
        )
    return count, len(words)
