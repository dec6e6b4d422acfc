"""Task `min_k`: whether a model's surprise tells the documents that it was trained on from others."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.data.excerpts import shuffled
from bloomery.num.ranks import auc_interval
from bloomery.seams import Doc, Episode, Grade, Item, Rng, Source, Tools

MEMBER, OTHER = "member", "other"  # kinds of items
BASELINES = {"loss": "mean log-probability", "zlib": "loss over zlib bytes"}  # parts that are scores too, as subjects


@dataclass(frozen=True)
class MinK:
    """ROC-AUC of telling training text from held-out text by the mean log-probability of its k% least likely tokens.

    P333 Shi et al. 2023, arXiv 2310.16789
    Differs: members and others are the corpus' own training and held-out documents, cut to one number of tokens, so 0.5 means that
        the model gives nothing away; the lowercase and reference-model baselines are left out.
    Costs: one forward pass over 2 x `count` x `length` tokens.
    """

    k: float = 0.2  # share of the tokens that is looked at
    length: int = 64  # tokens of every text; shorter documents are left out
    count: int = 200  # texts of each kind at most
    subject = "model"
    trained = True
    metrics = {"min_k_auc": ("area", "higher")}  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if not 0 < self.k <= 1 or min(self.length, self.count) < 1:
            raise ValueError("k must be above 0 and at most 1, length and count at least 1")

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """The beginnings of members and of others, equally many of each, in seeded order; none where the source lacks either."""
        kinds = {MEMBER: source.trained, OTHER: source.docs}
        found = {kind: self._texts(docs, source, rng.child(kind)) for kind, docs in kinds.items()}
        for kind, texts in found.items():
            for doc, text in texts[: min(map(len, found.values()))]:
                about = {"group": str(doc.meta.get("package", doc.id)), "kind": kind}
                yield Item(f"{kind}:{doc.id}", prompt="", want="score", target=text, **about)

    def _texts(self, docs: Sequence[Doc], source: Source, rng: Rng) -> list[tuple[Doc, str]]:
        """The first `length` tokens of documents that have as many."""
        chosen: list[tuple[Doc, str]] = []
        for doc in shuffled(docs, rng):
            ids = source.tokenizer.encode(doc.text[: 32 * self.length])[: self.length]
            if len(ids) == self.length and len(chosen) < self.count:
                chosen.append((doc, source.tokenizer.decode(ids)))
        return chosen

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score = the mean over the k% least likely tokens; parts loss and zlib are the baselines' scores, higher = more likely a
        member. The end of the document does not count: it stands where the text was cut, not where the document ends."""
        logp = episode.logp[:-1] or episode.logp
        mean = math.fsum(logp) / len(logp)
        worst = sorted(logp)[: max(1, int(self.k * len(logp)))]
        packed = len(zlib.compress(item.target.encode()))
        parts = {"loss": mean, "zlib": mean / packed, "member": float(item.kind == MEMBER), "nats": -math.fsum(episode.logp)}
        return Grade(math.fsum(worst) / len(worst), parts)

    def summary(self, rows: Sequence[tuple[Item, Episode, Grade]], rng: Rng) -> dict[str, float]:
        """The area by the score, and by each baseline as another subject, with intervals clustered by group."""
        kinds, groups = [item.kind == MEMBER for item, _, _ in rows], [item.group for item, _, _ in rows]
        scores = {"min_k_auc": [grade.score for _, _, grade in rows]}
        scores |= {f"min_k_auc@{subject}": [grade.parts[part] for _, _, grade in rows] for part, subject in BASELINES.items()}
        found: dict[str, float] = {}
        for metric, values in scores.items():
            found |= auc_interval(values, kinds, groups, rng).named(metric)
        return found
