"""Asking a model the items of a task, so that a kill costs one batch at most, and asking some of them again in another way."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bloomery.core.errors import BadInput, Interrupted
from bloomery.core.job import Job
from bloomery.data.journal import Journal
from bloomery.infer.answers import Answer, Examinee, kept
from bloomery.infer.sampler import Sampler
from bloomery.seams import Episode, Grade, Item, Rng, Rollout, Task, Tools

SCORED_TOGETHER = 1 << 16  # characters of scored text in one batch, about; a batch is what a kill can cost
CHECKED = 3  # items of each task computed once more in another way


def ask(
    engine: Sampler,
    rollout: Rollout,
    tools: Tools,
    name: str,
    task: Task,
    items: Sequence[Item],
    file: Path,
    job: Job,
    rng: Rng,
) -> list[dict[str, Any]]:
    """What is kept of every item's answer, the best one where the rollout gives several.

    Batches are fixed beforehand, so that a resumed run computes the same numbers; an item that is written down is not asked again, even
    where a kill tore its batch. The rollout gets the same `rng` for every batch: what it draws depends on the ids of items.
    """
    journal = Journal(file)
    with job.log.progress(name, total=len(items), unit="items") as bar:
        for batch in batches(items, engine.rows):
            if job.stopping:
                raise Interrupted(f"stopped after {len(journal.rows)} of {len(items)} items of {name}; run again to go on from there")
            if missing := [item for item in batch if item.id not in journal]:
                found = answers_of(rollout.rollout(engine, missing, tools, rng), missing)
                rows = []
                for item in missing:
                    episode, grade = best(task, item, found[item.id], tools)
                    rows.append(kept(item, Answer(episode, *engine.read[item.id], engine.thoughts.get(episode.id, 0)), grade))
                journal.add(rows)
            bar.advance(len(batch))
    return [journal.rows[item.id] for item in items]


def answers_of(episodes: Sequence[Episode], items: Sequence[Item]) -> dict[str, list[Episode]]:
    """By item, the episodes that are answers: nobody's parent. BadInput where a rollout gives none."""
    parents = {episode.parent for episode in episodes}
    found: dict[str, list[Episode]] = {item.id: [] for item in items}
    for episode in episodes:
        if episode.id not in parents:
            found[episode.item].append(episode)
    if empty := next((item for item, answers in found.items() if not answers), None):
        raise BadInput(f"rollout: the item {empty!r} was given no answer; a rollout must give one at least")
    return found


def best(task: Task, item: Item, answers: Sequence[Episode], tools: Tools) -> tuple[Episode, Grade]:
    """The first answer of the best grade; where there are several, a part of the grade says how many."""
    graded = [(episode, task.grade(item, episode, tools)) for episode in answers]
    episode, grade = max(graded, key=lambda one: one[1].score)
    return episode, grade if len(answers) == 1 else replace(grade, parts={**grade.parts, "answers": float(len(answers))})


def batches(items: Sequence[Item], together: int) -> Iterator[list[Item]]:
    """Items in order, scored ones by characters and completions by number."""
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) >= together if item.want == "generate" else sum(len(one.target) for one in batch) >= SCORED_TOGETHER:
            yield batch
            batch = []
    if batch:
        yield batch


def sample(items: Sequence[Item]) -> set[str]:
    """Ids of a short, a middling and a longer item, none of the longest."""
    ordered = sorted(items, key=lambda item: (len(item.prompt) + len(item.target), item.id))
    return {ordered[len(ordered) * k // 4].id for k in range(CHECKED)}


def round_trip(examinee: Examinee, item: Item) -> bool:
    """Whether the tokens of a scored text give the text back: bits of another text would be worth nothing."""
    return examinee.tokenizer.decode(examinee.tokenizer.encode(item.target)) == item.target


def worst(*values: float) -> float:
    """The largest; nan where any is none, which `max` may pass over."""
    return math.nan if any(map(math.isnan, values)) else max(values)


def kept_nats(row: dict[str, Any]) -> float | None:
    """Nats of the target as a scored item's grade holds them, in bits or in nats; None where it holds neither."""
    parts = row["parts"]
    return -parts["bits"] * math.log(2) if "bits" in parts else -parts["nats"] if "nats" in parts else None


def scored_again(examinee: Examinee, item: Item, row: dict[str, Any]) -> tuple[float, float]:
    """Differences in nats per token from the score kept: of the item scored alone, and of plain forward passes."""
    (ids, start), step, model = examinee.document(item), examinee.model.context, examinee.model
    stored = kept_nats(row)
    alone = float(model.score([ids])[0][start - 1 :].astype("float64").sum())
    plain = 0.0
    for at in range(0, len(ids) - 1, step):
        given, wanted = ids[at : at + step], torch.tensor(ids[at + 1 : at + step + 1])
        logp = model.logits(given[: len(wanted)]).double().log_softmax(-1).gather(-1, wanted[:, None])[:, 0]
        plain += float(logp[max(0, start - 1 - at) :].sum())
    return abs(stored - alone) / row["tokens"], abs(stored - plain) / row["tokens"]


def choice_gap(examinee: Examinee, item: Item, ids: Sequence[int]) -> float:
    """How far below the best logit the tokens written stand at most, by one forward pass over prompt and completion."""
    prompt = examinee.prompt(item)
    logits = examinee.model.logits([*prompt, *ids[:-1]])[len(prompt) - 1 :]
    chosen = logits.gather(-1, torch.tensor(ids)[:, None])[:, 0]
    return float((logits.max(-1).values - chosen).max())
