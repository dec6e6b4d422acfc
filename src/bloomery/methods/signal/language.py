"""Signal `language`: how surely a document is in one of some languages, and the likeliest of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bloomery.core.errors import BadInput
from bloomery.data.languages import detector
from bloomery.seams import Doc, Tools


@dataclass(frozen=True)
class Language:
    """Probability that a document is in each of the languages asked for, by naive Bayes over byte n-grams.

    Source: Lui & Baldwin 2012, "langid.py: an off-the-shelf language identification tool" (97 languages).
    Differs: the model of py3langid, which its package ships, so nothing is downloaded; fastText's detector of CCNet is another.
    Costs: some MB/s; the beginning of a document decides.
    """

    languages: tuple[str, ...] = ("en",)  # ISO 639-1 codes, a column of probabilities each
    head: int = 4000  # characters looked at

    def __post_init__(self) -> None:
        if not self.languages or any(len(one) != 2 or not one.isascii() or not one.islower() for one in self.languages):
            raise ValueError("languages are codes of two small letters, such as en")

    def columns(self, docs: Sequence[Doc], tools: Tools | None) -> dict[str, Sequence[float]]:
        """A probability under each code, `likeliest` (of any language) and `known` (1 where it is one of those asked for)."""
        found = np.zeros((len(docs), len(self.languages) + 2))
        detect = detector("language")
        if unknown := sorted(set(self.languages) - set(detect.labels)):
            raise BadInput(f"language.languages: {unknown[0]} is not one of {', '.join(sorted(detect.labels))}")
        for row, doc in zip(found, docs, strict=True):
            ranked = dict(detect.rank(doc.text[: self.head]))
            first = max(ranked, key=lambda code: (ranked[code], code))
            row[:] = [*(float(ranked[code]) for code in self.languages), float(ranked[first]), first in self.languages]
        return {name: found[:, k] for k, name in enumerate((*self.languages, "likeliest", "known"))}
