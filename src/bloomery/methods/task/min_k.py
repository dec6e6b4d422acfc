"""Task `min_k`: whether a model's surprise tells the documents that it was trained on from others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.data.membership import MEMBER, beginnings
from bloomery.num.membership import areas_compared, least_likely, over_zlib, told_apart
from bloomery.seams import Episode, Grade, Item, Rng, Source, Tools

BASELINES = {"loss": "mean log-probability", "zlib": "loss over zlib bytes"}  # parts that are scores too, as subjects


@dataclass(frozen=True)
class MinK:
    """Tells training text from held-out text by the mean log-probability of its k% least likely tokens.

    P333 Shi et al. 2023, arXiv 2310.16789
    Differs: members and others are the corpus' own training and held-out documents, cut to one number of tokens, so 0.5 means that
        the model gives nothing away; the threshold is chosen on one half of them and its rates are those of the other half; the lowercase
        and reference-model baselines are left out.
    Costs: one forward pass over 2 x `count` x `length` tokens.
    """

    k: float = 0.2  # share of the tokens that is looked at
    length: int = 64  # tokens of every text; shorter documents are left out
    count: int = 200  # texts of each kind at most
    rate: float = 0.05  # share of others that the threshold may call members, on the half on which it is chosen
    subject = "model"
    trained = True
    metrics = {
        "min_k_auc": ("area", "higher"),
        "min_k_true_positives": ("share", "higher"),
        "min_k_false_positives": ("share", "lower"),
    }  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if not 0 < self.k <= 1 or min(self.length, self.count) < 1 or not 0 <= self.rate < 1:
            raise ValueError("k must be above 0 and at most 1, length and count at least 1, rate from 0 to below 1")

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """The beginnings of members and of others, equally many of each, in seeded order; none where the source lacks either."""
        yield from beginnings(source, source.docs, self.length, self.count, rng)

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score = the mean over the k% least likely tokens; parts loss and zlib are the baselines' scores, higher = more likely a
        member. The end of the document does not count: it stands where the text was cut, not where the document ends."""
        logp = episode.logp[:-1] or episode.logp
        parts = {"loss": math.fsum(logp) / len(logp), "zlib": over_zlib(logp, item.target)}
        return Grade(least_likely(logp, self.k), {**parts, "member": float(item.kind == MEMBER), "nats": -math.fsum(episode.logp)})

    def summary(self, rows: Sequence[tuple[Item, Episode, Grade]], rng: Rng) -> dict[str, float]:
        """Area and calibrated rates by the score, and by each baseline as another subject, with intervals clustered by group."""
        scores = {"": [grade.score for _, _, grade in rows]}
        scores |= {subject: [grade.parts[part] for _, _, grade in rows] for part, subject in BASELINES.items()}
        kinds, groups = [item.kind == MEMBER for item, _, _ in rows], [item.group for item, _, _ in rows]
        return told_apart("min_k", scores, kinds, groups, self.rate, rng)

    def compare(
        self, rows: Sequence[tuple[Item, Episode, Grade]], others: Sequence[tuple[Item, Episode, Grade]], rng: Rng
    ) -> dict[str, float]:
        """The difference of the areas."""
        mine, theirs = ([grade.score for _, _, grade in graded] for graded in (rows, others))
        kinds, groups = [item.kind == MEMBER for item, _, _ in rows], [item.group for item, _, _ in rows]
        return areas_compared("min_k", mine, theirs, kinds, groups, rng)
