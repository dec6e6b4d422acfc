"""What tuning measures of held-out answers, before and after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bloomery.core.job import Job
    from bloomery.data.chat.template import ChatTemplate
    from bloomery.infer.model import Model
    from bloomery.train.conversations import Conversations


def mean_nats(told: list[tuple[float, float]]) -> float:
    """Per token."""
    return sum(each for each, _ in told) / sum(tokens for _, tokens in told)


def nats(model: Model, laid: Conversations, most: int, mesh: Any = None) -> list[tuple[float, float]]:
    """(nats, tokens) of the answers of each of `most` held-out conversations, in the precision of the model; the ranks of the mesh that it
    lies on ask together."""
    import torch

    from bloomery.infer.score import log_probabilities
    from bloomery.nn.pipeline import Asked
    from bloomery.train.conversations import sums
    from bloomery.train.mesh import ALONE

    chosen, mesh = laid.measured(most), mesh or ALONE
    net = model.net if mesh.pipe is None else Asked(mesh.pipe)
    told = sums(log_probabilities(net, [ids for _, (ids, _) in chosen], context=laid.context), chosen)
    return [(each, tokens) for each, tokens in mesh.ended(torch.tensor(told, dtype=torch.float64)).tolist()]


def copy_words(source: Path, out: Path, template: ChatTemplate) -> None:
    """The tokenizer's files, what ends an answer, and the template that was trained with."""
    from bloomery.nn import hf

    hf.copy_words(source, out)
    template.save(out)


def compare(before: list[tuple[float, float]], after: list[tuple[float, float]], laid: Conversations, job: Job) -> None:
    """Held-out answer nats before and after, and their paired difference with an interval clustered by package."""
    from bloomery.num.statistics import paired, ratio

    tokens = [weight for _, weight in before]
    groups = [one.package or one.id for one, _ in laid.measured(len(before))]
    rng = job.rng.child("interval")
    summed = {"before": [each for each, _ in before], "after": [each for each, _ in after]}
    for name, each in summed.items():
        job.fact(f"answer_nats_{name}", ratio(each, tokens, groups, rng).value)
    change = paired(summed["after"], summed["before"], tokens, groups, rng)
    job.fact("answer_nats_change", {"value": change.value, "low": change.low, "high": change.high, "n": change.n, "groups": change.groups})
