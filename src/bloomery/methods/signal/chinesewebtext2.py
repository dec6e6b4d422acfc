"""Signal `chinesewebtext2`: several labels of a document at once: quality, domains, toxicity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bloomery.core.errors import BadInput, near
from bloomery.data.linear import probabilities, trained
from bloomery.data.named import labelled, texts
from bloomery.seams import Doc, Tools

SYMBOLS = 0.5  # share of the characters beside blanks that are no letters, from which a text is a formula and not toxic


@dataclass(frozen=True)
class Chinesewebtext2:
    """Scores of quality and toxicity, and of each of several domains, by small classifiers that are trained on named documents.

    P362 Zhang et al. 2024, arXiv 2411.19668
    Differs: all are linear classifiers over words, or characters of scripts without spaces, and their pairs (data/linear.py), also the
        one of quality, which is a BERT there; domains are told one against the others, and documents are labelled by whoever names
        them, not by keywords and a language model in turns. What is toxic, good or of a domain is the recipe's to say, by thresholds.
    Costs: training once in every worker, ten passes over each set; scoring is one pass over the words for each score.
    """

    good: str = ""  # address of documents of good quality, such as good/*.jsonl; there must be some
    bad: str = ""  # address of documents of bad quality
    toxic: str = ""  # address of toxic documents
    benign: str = ""  # address of documents that are not
    domains: tuple[str, ...] = ()  # labels of the domains that are scored
    labelled: str = ""  # address of documents whose column `label` names their domain
    buckets: int = 1_048_576  # weights of each classifier
    outside = ("good", "bad", "toxic", "benign", "labelled")
    required = ("good", "bad", "toxic", "benign")

    def __post_init__(self) -> None:
        if bool(self.domains) != bool(self.labelled) or len(set(self.domains)) < len(self.domains) or len(self.domains) == 1:
            raise ValueError("domains and labelled go together: name two domains or more, each once, and documents of them")
        if not 2 <= self.buckets <= 1 << 28:
            raise ValueError("buckets must be from 2 to 2^28")

    def columns(self, docs: Sequence[Doc], tools: Tools | None) -> dict[str, Sequence[float]]:
        """quality, toxicity (probabilities); and where domains are named, domain_NAME for each, and likeliest, its place among them."""
        read = [doc.text for doc in docs]
        sets = {"quality": (self.good, self.bad), "toxicity": (self.toxic, self.benign)}
        found = {name: probabilities(read, _scorer(*named, name, self.buckets)) if docs else np.zeros(0) for name, named in sets.items()}
        found["toxicity"] = np.where([_symbols(text) > SYMBOLS for text in read], 0.0, found["toxicity"])
        if self.domains:
            scorers = _domains(self.labelled, self.domains, self.buckets) if docs else [np.zeros(3)] * len(self.domains)
            scores = np.stack([probabilities(read, weights) for weights in scorers])
            found |= {f"domain_{name}": row for name, row in zip(self.domains, scores, strict=True)}
            found["likeliest"] = scores.argmax(0).astype(np.float64)
        return found


def _symbols(text: str) -> float:
    """Share of digits and signs among the characters that are not blank."""
    plain = "".join(text.split())
    return sum(not c.isalpha() for c in plain) / max(1, len(plain))


@lru_cache(maxsize=4)
def _scorer(good: str, bad: str, name: str, buckets: int) -> np.ndarray:
    knobs = ("good", "bad") if name == "quality" else ("toxic", "benign")
    return trained(*(texts(place, f"chinesewebtext2.{knob}") for place, knob in zip((good, bad), knobs, strict=True)), buckets)


@lru_cache(maxsize=2)
def _domains(place: str, names: tuple[str, ...], buckets: int) -> list[np.ndarray]:
    """A classifier of each domain against all others."""
    by_name = labelled(place, "label", "chinesewebtext2.labelled")
    if missing := [name for name in names if name not in by_name]:
        raise BadInput(f"chinesewebtext2.domains: no document of {place} is labelled {missing[0]!r}; {near(missing[0], list(by_name))}")
    others = {name: [text for other in by_name if other != name for text in by_name[other]] for name in names}
    return [trained(by_name[name], others[name], buckets) for name in names]
