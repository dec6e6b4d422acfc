"""Task `copyright_traps`: whether a model has read the traps that were planted under a key."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.data.membership import MEMBER, OTHER
from bloomery.data.traps import demand, expected_nats, trap
from bloomery.num.membership import areas_compared, least_likely, told_apart
from bloomery.seams import Episode, Grade, Item, Rng, Source, Tools

BASELINES = {"min_k": "min-k 20%"}  # parts that are scores too, as subjects


@dataclass(frozen=True)
class CopyrightTraps:
    """Tells traps that the edit `copyright_traps` plants under a key from as many of the same making that were never planted.

    P379 Meeus et al. 2024, arXiv 2402.09363
    Differs: the reference of the ratio is the traps' own known perplexity in place of a second model's; the threshold is chosen on one half
        of the traps and its rates are those of the other half. A trap that no document got counts as planted all the same: let many times
        as many documents as traps get one.
    Costs: one forward pass over 2 x `traps` sentences.
    """

    key: str = "traps"  # as in the edit
    traps: int = 50  # different ones, as in the edit
    words: int = 25  # as in the edit
    vocabulary: int = 2000  # as in the edit
    rate: float = 0.05  # share of unplanted ones that the threshold may call planted, on the half on which it is chosen
    subject = "model"
    trained = True
    metrics = {
        "copyright_traps_auc": ("area", "higher"),
        "copyright_traps_true_positives": ("share", "higher"),
        "copyright_traps_false_positives": ("share", "lower"),
    }  # metric: unit, which way is better

    def __post_init__(self) -> None:
        demand(self.traps, self.words, self.vocabulary)
        if not 0 <= self.rate < 1:
            raise ValueError("rate must be from 0 to below 1")

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """The planted traps, and as many that follow them in number."""
        for number in range(2 * self.traps):
            kind, text = MEMBER if number < self.traps else OTHER, trap(self.key, number, self.words, self.vocabulary)
            yield Item(f"{kind}:{number}", prompt="", want="score", target=text, group=str(number), kind=kind)

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score = minus the nats over those of the traps' own making: 0 knows it by heart, -1 knows the words alone; part min_k is the
        baseline's score. The end of the document does not count."""
        logp = episode.logp[:-1] or episode.logp
        parts = {"min_k": least_likely(logp, 0.2), "member": float(item.kind == MEMBER), "nats": -math.fsum(episode.logp)}
        return Grade(math.fsum(logp) / expected_nats(self.words, self.vocabulary), parts)

    def summary(self, rows: Sequence[tuple[Item, Episode, Grade]], rng: Rng) -> dict[str, float]:
        """Area and calibrated rates by the score, and by the baseline as another subject, with intervals over traps."""
        scores = {"": [grade.score for _, _, grade in rows]}
        scores |= {subject: [grade.parts[part] for _, _, grade in rows] for part, subject in BASELINES.items()}
        kinds, groups = [item.kind == MEMBER for item, _, _ in rows], [item.group for item, _, _ in rows]
        return told_apart("copyright_traps", scores, kinds, groups, self.rate, rng)

    def compare(
        self, rows: Sequence[tuple[Item, Episode, Grade]], others: Sequence[tuple[Item, Episode, Grade]], rng: Rng
    ) -> dict[str, float]:
        """The difference of the areas."""
        mine, theirs = ([grade.score for _, _, grade in graded] for graded in (rows, others))
        kinds, groups = [item.kind == MEMBER for item, _, _ in rows], [item.group for item, _, _ in rows]
        return areas_compared("copyright_traps", mine, theirs, kinds, groups, rng)
