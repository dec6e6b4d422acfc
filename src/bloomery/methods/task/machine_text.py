"""Task `machine_text`: whether a model's likelihoods tell text that a machine wrote from text that people wrote."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.core.errors import BadInput
from bloomery.data.questions import asked, group_of
from bloomery.num.diversity import spread_over_scales
from bloomery.num.ranks import auc_interval
from bloomery.seams import Episode, Grade, Item, Rng, Source, Tools

LABELS = ("machine", "human")
LEAST = 1e-6  # of a spread: of text that is everywhere alike it would be 0


@dataclass(frozen=True)
class MachineText:
    """ROC-AUC of telling machine text by its mean log-probability over the spread of its diversity at several scales (Lastde).

    P429 Xu et al. 2024, arXiv 2410.06072
    Differs: the score is that of Lastde, from the probabilities of the text's own tokens; Lastde++, which needs the whole distribution at
        every token, is left out, as are log-rank and entropy; the mean log-probability alone is the baseline.
    Costs: one forward pass over each text.
    """

    file: str = ""  # of the questions' folder, without its ending; empty: those whose rows have text and label
    count: int = 0  # texts at most; 0: all
    tokens: int = 256  # of a text at most; shorter than 32 they are left out
    window: int = 3  # log-probabilities side by side
    bins: int = 10  # intervals of a cosine for each token
    scales: int = 5  # over how many neighbours log-probabilities are averaged at most
    subject = "model"
    metrics = {"machine_text_auc": ("area", "higher")}  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if self.count < 0 or self.tokens < 32 or min(self.window, self.bins, self.scales) < 2:
            raise ValueError("count must be at least 0, tokens at least 32, and window, bins and scales at least 2")

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """The beginning of each text, of the kind of its label; BadInput for a label that is neither machine nor human."""
        for key, row in asked(source, self.file, ("text", "label"), self.count):
            if row["label"] not in LABELS:
                raise BadInput(f"questions: {key}: the label {row['label']!r} is neither machine nor human; mend the row")
            ids = source.tokenizer.encode(str(row["text"]))[: self.tokens]
            if len(ids) >= 32:
                yield Item(key, "", "score", source.tokenizer.decode(ids), group=group_of(row, key), kind=str(row["label"]))

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score = mean log-probability over the spread, higher = more likely a machine's; part `likelihood` is the baseline's. The end of
        the document does not count."""
        logp = episode.logp[:-1] or episode.logp
        likelihood = math.fsum(logp) / len(logp)
        spread = spread_over_scales(logp, self.window, self.bins * len(logp), self.scales)
        score = likelihood / max(spread, LEAST) if math.isfinite(spread) else likelihood / LEAST
        return Grade(score, {"likelihood": likelihood, "nats": -math.fsum(episode.logp)})

    def summary(self, rows: Sequence[tuple[Item, Episode, Grade]], rng: Rng) -> dict[str, float]:
        """The area by the score, and by mean log-probability as another subject, with intervals clustered by group."""
        machine, groups = [item.kind == "machine" for item, _, _ in rows], [item.group for item, _, _ in rows]
        found = auc_interval([grade.score for _, _, grade in rows], machine, groups, rng).named("machine_text_auc")
        likelihood = [grade.parts["likelihood"] for _, _, grade in rows]
        return found | auc_interval(likelihood, machine, groups, rng).named("machine_text_auc@mean log-probability")
