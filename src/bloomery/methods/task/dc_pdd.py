"""Task `dc_pdd`: training text told from other text by probabilities that are surprising for such words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bloomery.data.excerpts import shuffled
from bloomery.data.membership import MEMBER, beginnings
from bloomery.num.membership import areas_compared, least_likely, told_apart
from bloomery.seams import Doc, Episode, Grade, Item, Rng, Source, Tools

BASELINES = {"loss": "mean log-probability", "min_k": "min-k 20%"}  # parts that are scores too, as subjects
AGAIN = -1.0  # in the place of a token's rarity: it stood before in the text


@dataclass(frozen=True)
class DcPdd:
    """Tells training text from held-out text by token probabilities weighed with how rare the tokens are in a reference text.

    P428 Zhang et al. 2024, arXiv 2409.14781
    Differs: the reference is a share of the held-out documents, which are then not asked about, in place of a large general corpus; the
        threshold is chosen on one half of the texts and its rates are those of the other half.
    Costs: one forward pass over 2 x `count` x `length` tokens, and encoding the reference.
    """

    length: int = 64  # tokens of every text; shorter documents are left out
    count: int = 200  # texts of each kind at most
    reference: float = 0.5  # share of the held-out documents whose tokens are counted
    cap: float = 0.01  # what a token adds at most, so that a few likely and rare ones do not decide
    rate: float = 0.05  # share of others that the threshold may call members, on the half on which it is chosen
    subject = "model"
    trained = True
    metrics = {
        "dc_pdd_auc": ("area", "higher"),
        "dc_pdd_true_positives": ("share", "higher"),
        "dc_pdd_false_positives": ("share", "lower"),
    }  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if min(self.length, self.count) < 1 or not 0 < self.reference < 1 or self.cap <= 0 or not 0 <= self.rate < 1:
            raise ValueError("length and count must be at least 1, reference between 0 and 1, cap above 0, rate from 0 to below 1")

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """The beginnings of members and of others, each with the rarity of its tokens: -log of their smoothed share of the reference."""
        docs = shuffled(source.docs, rng.child("reference"))
        count = round(self.reference * len(docs))
        counts = self._counts(docs[:count], source)
        total = math.log(counts.total() + source.net.cfg.vocab)
        for item in beginnings(source, docs[count:], self.length, self.count, rng):
            ids = source.tokenizer.encode(item.target)
            first = {token: place for place, token in reversed(list(enumerate(ids)))}
            numbers = (total - math.log(counts[token] + 1) if first[token] == place else AGAIN for place, token in enumerate(ids))
            yield replace(item, numbers=tuple(numbers))

    def _counts(self, docs: Sequence[Doc], source: Source) -> Counter[int]:
        """How often each token stands in the reference."""
        counts: Counter[int] = Counter()
        for doc in docs:
            counts.update(source.tokenizer.encode(doc.text))
        return counts

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score = the mean over first occurrences of probability times rarity, each at most `cap`; parts loss and min_k are the
        baselines' scores. Higher = more likely a member. The end of the document does not count."""
        logp = episode.logp[: len(item.numbers)]
        found = [min(self.cap, math.exp(p) * rarity) for p, rarity in zip(logp, item.numbers, strict=True) if rarity != AGAIN]
        parts = {"loss": math.fsum(logp) / len(logp), "min_k": least_likely(logp, 0.2)}
        return Grade(math.fsum(found) / len(found), {**parts, "member": float(item.kind == MEMBER), "nats": -math.fsum(episode.logp)})

    def summary(self, rows: Sequence[tuple[Item, Episode, Grade]], rng: Rng) -> dict[str, float]:
        """Area and calibrated rates by the score, and by each baseline as another subject, with intervals clustered by group."""
        scores = {"": [grade.score for _, _, grade in rows]}
        scores |= {subject: [grade.parts[part] for _, _, grade in rows] for part, subject in BASELINES.items()}
        kinds, groups = [item.kind == MEMBER for item, _, _ in rows], [item.group for item, _, _ in rows]
        return told_apart("dc_pdd", scores, kinds, groups, self.rate, rng)

    def compare(
        self, rows: Sequence[tuple[Item, Episode, Grade]], others: Sequence[tuple[Item, Episode, Grade]], rng: Rng
    ) -> dict[str, float]:
        """The difference of the areas."""
        mine, theirs = ([grade.score for _, _, grade in graded] for graded in (rows, others))
        kinds, groups = [item.kind == MEMBER for item, _, _ in rows], [item.group for item, _, _ in rows]
        return areas_compared("dc_pdd", mine, theirs, kinds, groups, rng)
