"""Task `machine_text`: whether a model's likelihoods tell text that a machine wrote from text that people wrote."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.core.errors import BadInput
from bloomery.data.questions import asked, group_of
from bloomery.num.diversity import spread_over_scales
from bloomery.num.ranks import auc_change, auc_interval
from bloomery.seams import Episode, Grade, Item, Rng, Source, Tools

LABELS = ("machine", "human")
PLUS = (4, 8, 15)  # window, bins and scales of Lastde++
SUBJECTS = {"Lastde++": "plus", "mean log-probability": "likelihood"}  # other scores: parts of a grade
LEAST = 1e-6  # of a spread: of text that is everywhere alike it would be 0


@dataclass(frozen=True)
class MachineText:
    """ROC-AUC of telling machine text by mean log-probability over the spread of its diversity (Lastde), and above that of drawn tokens.

    P429 Xu et al. 2024, arXiv 2410.06072
    Differs: the score is Lastde's; Lastde++ says how far it lies above the same of tokens drawn from the model, in deviations of
        theirs; one model draws and judges, where the paper may take two; Lastde++ has the numbers of its published program (windows of 4, 8
        intervals a token, 15 scales). Log-rank and entropy are left out; the mean log-probability alone is the baseline.
    Costs: one forward pass over each text, one more for Lastde++, and a tenth of a second of arithmetic for 100 draws.
    """

    file: str = ""  # of the questions' folder, without its ending; empty: those whose rows have text and label
    count: int = 0  # texts at most; 0: all
    tokens: int = 256  # of a text at most; shorter than 32 they are left out
    window: int = 3  # log-probabilities side by side
    bins: int = 10  # intervals of a cosine for each token
    scales: int = 5  # over how many neighbours log-probabilities are averaged at most
    draws: int = 100  # of every token, that Lastde++ compares with; 0: Lastde alone
    subject = "model"
    metrics = {"machine_text_auc": ("area", "higher")}  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if self.count < 0 or self.tokens < 32 or min(self.window, self.bins, self.scales) < 2 or self.draws < 0 or self.draws == 1:
            raise ValueError("count must be at least 0, tokens at least 32, window, bins and scales at least 2, and draws 0 or at least 2")

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """The beginning of each text, of the kind of its label; BadInput for a label that is neither machine nor human."""
        for key, row in asked(source, self.file, ("text", "label"), self.count):
            if row["label"] not in LABELS:
                raise BadInput(f"questions: {key}: the label {row['label']!r} is neither machine nor human; mend the row")
            ids = source.tokenizer.encode(str(row["text"]))[: self.tokens]
            if len(ids) >= 32:
                about = {"group": group_of(row, key), "kind": str(row["label"]), "draws": self.draws}
                yield Item(key, "", "score", source.tokenizer.decode(ids), **about)

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score = mean log-probability over the spread, higher = more likely a machine's; part `likelihood` is the baseline's, `plus` that
        of Lastde++, where tokens were drawn. The end of the document does not count."""
        logp = episode.logp[:-1] or episode.logp
        parts = {"likelihood": math.fsum(logp) / len(logp), "nats": -math.fsum(episode.logp)}
        if episode.drawn:
            drawn = [lastde(one[: len(logp)], *PLUS) for one in episode.drawn]
            middle = math.fsum(drawn) / len(drawn)
            deviation = math.sqrt(math.fsum((one - middle) ** 2 for one in drawn) / (len(drawn) - 1))
            parts["plus"] = (lastde(logp, *PLUS) - middle) / max(deviation, LEAST)
        return Grade(lastde(logp, self.window, self.bins, self.scales), parts)

    def summary(self, rows: Sequence[tuple[Item, Episode, Grade]], rng: Rng) -> dict[str, float]:
        """The area by the score, and by Lastde++ and mean log-probability as other subjects, with intervals clustered by group."""
        machine, groups = [item.kind == "machine" for item, _, _ in rows], [item.group for item, _, _ in rows]
        found = auc_interval([grade.score for _, _, grade in rows], machine, groups, rng).named("machine_text_auc")
        for subject, part in SUBJECTS.items():
            if all(part in grade.parts for _, _, grade in rows):
                values = [grade.parts[part] for _, _, grade in rows]
                found |= auc_interval(values, machine, groups, rng).named(f"machine_text_auc@{subject}")
        return found

    def compare(
        self, rows: Sequence[tuple[Item, Episode, Grade]], others: Sequence[tuple[Item, Episode, Grade]], rng: Rng
    ) -> dict[str, float]:
        """The difference of the areas by the score."""
        mine, theirs = ([grade.score for _, _, grade in graded] for graded in (rows, others))
        machine, groups = [item.kind == "machine" for item, _, _ in rows], [item.group for item, _, _ in rows]
        return auc_change(mine, theirs, machine, groups, rng).named("machine_text_auc")


def lastde(logp: Sequence[float], window: int, bins: int, scales: int) -> float:
    """The mean log-probability over the spread of diversity; `bins` are intervals for each token."""
    likelihood = math.fsum(logp) / len(logp)
    spread = spread_over_scales(logp, window, bins * len(logp), scales)
    return likelihood / max(spread, LEAST) if math.isfinite(spread) else likelihood / LEAST
