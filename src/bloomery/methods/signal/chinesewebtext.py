"""Signal `chinesewebtext`: what EvalWeb's rules look at in Chinese web text, and how good a fast scorer finds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from bloomery.core.errors import BadInput
from bloomery.data.linear import probabilities, trained
from bloomery.data.named import texts
from bloomery.data.word_hashes import runs_of
from bloomery.seams import Doc, Tools

FIRST, LAST = 0x4E00, 0x9FA5  # what counts as a Chinese character
GRAM = 13  # characters of a repeated passage
BLANKS = str.maketrans("", "", " \n\t")


@dataclass(frozen=True)
class Chinesewebtext:
    """Length, share of Chinese characters, listed words and repeated passages, and a quality score learned from two named sets.

    P320 Chen et al. 2023, arXiv 2311.01149
    Differs: the score is that of the distilled classifier alone, a linear one (data/linear.py) over characters and their pairs instead
        of fastText over segmented words; what a teacher thinks good and bad is named as two sets. Traditional characters are not told
        from simplified ones. Thresholds are the recipe's, recipes/filters/chinesewebtext.yaml has the paper's.
    Costs: one pass over the characters, one search for each listed word; the scorer is trained once in every worker.
    """

    words: str = ""  # a text file with a sensitive word on each line; empty: none is looked for
    good: str = ""  # address of documents of good quality, such as good/*.jsonl; with `bad`, or no score
    bad: str = ""  # address of documents of bad quality
    buckets: int = 1_048_576  # weights of the scorer
    outside = ("words", "good", "bad")

    def __post_init__(self) -> None:
        if bool(self.good) != bool(self.bad):
            raise ValueError("good and bad go together: name documents of both, or of neither")
        if not 2 <= self.buckets <= 1 << 28:
            raise ValueError("buckets must be from 2 to 2^28")

    def columns(self, docs: Sequence[Doc], tools: Tools | None) -> dict[str, Sequence[float]]:
        """characters, line_length (characters for each line), chinese (share), sensitive (listed words that occur, for each line),
        repeated (share of the runs of 13 characters that occur more than once); and quality, where sets are named."""
        listed = _listed(self.words) if docs and self.words else ()
        names = ("characters", "line_length", "chinese", "sensitive", "repeated")
        rows = np.array([_measured(doc.text, listed) for doc in docs], np.float64).reshape(len(docs), len(names))
        found = {name: rows[:, k] for k, name in enumerate(names)}
        if self.good:
            weights = _scorer(self.good, self.bad, self.buckets) if docs else np.zeros(self.buckets + 1)
            found["quality"] = probabilities([doc.text for doc in docs], weights)
        return found


def _measured(text: str, listed: tuple[str, ...]) -> tuple[float, ...]:
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    lines, size = text.count("\n") + 1, max(1, len(text))
    chinese = np.count_nonzero((codes >= FIRST) & (codes <= LAST)) / size
    return len(text), len(text) / lines, chinese, sum(word in text for word in listed) / lines, repeated(text)


def repeated(text: str) -> float:
    """Share of the runs of 13 characters, in small letters and without blanks, that occur more than once."""
    plain = text.lower().translate(BLANKS)
    hashes = np.frombuffer(plain.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
    count = runs_of(hashes, len(hashes), GRAM, hashes)
    times = np.unique(hashes[:count], return_counts=True)[1]
    return float(times[times > 1].sum() / max(1, count))


@lru_cache(maxsize=4)
def _listed(place: str) -> tuple[str, ...]:
    try:
        lines = Path(place).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as wrong:
        raise BadInput(f"chinesewebtext.words: {place} cannot be read ({wrong}); name a text file with a word on each line") from None
    return tuple(dict.fromkeys(word for line in lines if (word := line.strip())))


@lru_cache(maxsize=2)
def _scorer(good: str, bad: str, buckets: int) -> np.ndarray:
    return trained(texts(good, "chinesewebtext.good"), texts(bad, "chinesewebtext.bad"), buckets)
