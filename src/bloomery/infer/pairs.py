"""Answers that two prompts make together: the same tokens follow both, and filters read the logits after the second as `logits:without`.

The second prompt is a job of its own in the running batch, the shadow of the first: it takes a row and pages, writes the tokens that its
leader takes, and nobody hears of it.

Shapes: N places (a job, and how many tokens after its newest), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bloomery.infer.asks import Ask, Job
from bloomery.infer.spelling import Spelling

ROLE = "without"  # what filters call the model after the second prompt


def shadowed(job: Job) -> Job:
    """The job with its shadow, where its ask has a second prompt and tokens are wanted."""
    if job.ask.without and job.limit:
        own = Ask(job.ask.without, job.ask.limit, rng=job.ask.rng)
        job.shadow = Job(own, job.limit, lambda event: None, Spelling(job.spelling.tokenizer, ()), ids=job.ids, leads=job)
    return job


def members(job: Job) -> list[Job]:
    """A job and its shadow, whichever of them is given."""
    leader = job.leads or job
    return [leader] if leader.shadow is None else [leader, leader.shadow]


def plain(ask: Ask) -> Ask:
    """The second prompt of an ask, as an ask that can be looked at."""
    return replace(ask, prompt=ask.without, without=())


def begun(jobs: Sequence[Job], logits_NV: Tensor, seen: Mapping[str, Tensor]) -> tuple[list[Job], Tensor, dict[str, Tensor]]:
    """Of jobs whose prompts have been read, those that can write, with the logits that they choose from: a pair when both have been."""
    if all(len(members(job)) == 1 for job in jobs):
        return list(jobs), logits_NV, dict(seen)
    ready: list[Job] = []
    for i, job in enumerate(jobs):
        job.last = {"": logits_NV[i], **{name: one[i] for name, one in seen.items()}}
        if all(one.last for one in members(job)):
            ready.append(members(job)[0])
    if not ready:
        return [], logits_NV[:0], {}
    rows = {name: torch.stack([job.last[name] for job in ready]) for name in ready[0].last}
    rows[f"logits:{ROLE}"] = torch.stack([members(job)[-1].last[""] for job in ready]).float()
    for job in ready:
        for one in members(job):
            one.last = {}
    return ready, rows.pop(""), rows


def beside(rows: Sequence[Job], logits_BTV: Tensor) -> dict[str, Tensor]:
    """The logits of each row's second prompt, its own where it has none; nothing where no row has one."""
    if all(job.shadow is None for job in rows):
        return {}
    place = {id(job): row for row, job in enumerate(rows)}
    return {f"logits:{ROLE}": logits_BTV[[place[id(members(job)[-1])] for job in rows]]}
