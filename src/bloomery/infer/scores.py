"""Rows of a score table, each with its interval and its clean twin: the same figure, with an interval of its own, over items that training
text does not hold.

A task's `summary` names its figures `metric`, or `metric@subject` where something else than the model was measured; `.low`,
`.high` and `.n` stand beside each. `metrics` of a task, where it has one, gives unit and better way ("lower", "higher").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from bloomery.infer.rivals import Bits
from bloomery.num.changes import mean_change
from bloomery.num.statistics import Interval, paired, share
from bloomery.seams import Episode, Grade, Item, Rng, Task

Graded = tuple[Item, Episode, Grade]
SUFFIXES = (".low", ".high", ".n")


class Twin(NamedTuple):
    """A figure over items not seen in training, with its interval and how many they are."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: float | None = None

    @classmethod
    def of(cls, summary: Mapping[str, float], key: str) -> Twin:
        """The twin of a figure in the summary of clean items; nothing where that has none."""
        return cls(summary[key], *(summary.get(key + suffix) for suffix in SUFFIXES)) if key in summary else NONE


NONE = Twin()


def row(
    task: str, metric: str, subject: str, value: float, low: float | None = None, high: float | None = None, n: float = 1, unit: str = "",
    better: str = "", clean: Twin = NONE, contaminated: int = 0, note: str = "",
) -> dict[str, Any]:  # fmt: skip
    """One row; what is not a number is written as null. `clean` is over items not seen in training, `contaminated` counts the others."""
    twin = {"clean": clean.value, "clean_low": clean.low, "clean_high": clean.high}
    numbers = {"value": value, "low": low, "high": high, **twin}
    finite = {name: float(x) if x is not None and math.isfinite(x) else None for name, x in numbers.items()}
    known = finite["clean"] is not None
    about = {"clean_n": int(clean.n or 0) if known else None, "contaminated": contaminated, "note": note}
    return {"task": task, "metric": metric, "subject": subject, **finite, "n": int(n), "unit": unit, "better": better, **about}


def unknown(made: Mapping[str, Any], why: str) -> dict[str, Any]:
    """A row without its twin, and why it has none."""
    nothing = dict.fromkeys(("clean", "clean_low", "clean_high", "clean_n"))
    return {**made, **nothing, "note": f"{made['note']}; {why}".removeprefix("; ")}


def rows_of(
    name: str, task: Task, graded: Sequence[Graded], seen: AbstractSet[str], rng: Rng, subject: str, note: str
) -> list[dict[str, Any]]:
    """A task's summary as rows; `seen` are the ids of contaminated items."""
    clean = [one for one in graded if one[0].id not in seen]
    whole = task.summary(graded, rng)
    twin = whole if len(clean) == len(graded) else task.summary(clean, rng) if clean else {}
    found = []
    for key in whole:
        if not key.endswith(SUFFIXES):
            metric, _, other = key.partition("@")
            unit, better = getattr(task, "metrics", {}).get(metric, ("", ""))
            low, high, n = (whole.get(key + suffix) for suffix in SUFFIXES)
            n, hidden = len(graded) if n is None else n, len(graded) - len(clean)
            clean_twin = Twin.of({f"{key}.n": len(clean), **twin}, key)
            found.append(row(name, metric, other or subject, whole[key], low, high, n, unit, better, clean_twin, hidden, note))
    return found


def rival_rows(name: str, task: Task, mine: Sequence[Graded], rival: Bits, seen: AbstractSet[str], rng: Rng) -> list[dict[str, Any]]:
    """A rival's bits per byte through the task's own grade, and how far the model is ahead of it, file by file.

    All files together are one number: no interval, and no clean twin where any item is contaminated.
    """
    size, hidden = [grade.parts["bytes"] for _, _, grade in mine], sum(item.id in seen for item, _, _ in mine)
    metric, (unit, better) = "bits_per_byte", task.metrics["bits_per_byte"]
    if isinstance(rival.bits, float):
        value = rival.bits / sum(size)
        twin = NONE if hidden else Twin(value, n=len(mine))
        return [row(name, metric, rival.subject, value, None, None, len(mine), unit, better, twin, hidden, rival.note)]
    theirs = []
    for (item, _, _), bits in zip(mine, rival.bits, strict=True):
        episode = Episode(item.id, item.id, logp=(-bits * math.log(2),), role=rival.subject)
        theirs.append((item, episode, task.grade(item, episode, None)))
    ahead = advantage(mine, theirs, rng)
    clean = [i for i, (item, _, _) in enumerate(mine) if item.id not in seen]
    twin = twin_of(advantage([mine[i] for i in clean], [theirs[i] for i in clean], rng)) if clean else NONE
    over = f"advantage_over_{rival.subject.partition(',')[0].partition(' ')[0]}"
    note = f"{rival.subject} minus model on the same files"
    gap = row(name, over, "model", ahead.value, ahead.low, ahead.high, ahead.n, unit, "higher", twin, hidden, note)
    return [*rows_of(name, task, theirs, seen, rng, rival.subject, rival.note), gap]


def change_rows(
    name: str, task: Task, mine: Sequence[Graded], other: Sequence[Graded], subject: str, seen: AbstractSet[str], rng: Rng
) -> list[dict[str, Any]]:
    """Paired differences on the same items, the model's figures minus the other's: `<metric>_change`, or of the mean score where a
    task does not compare itself. The unit and the better way are the metric's own."""
    clean = [i for i, (item, _, _) in enumerate(mine) if item.id not in seen]
    whole = compared(task, mine, other, rng)
    twin = compared(task, [mine[i] for i in clean], [other[i] for i in clean], rng) if clean else {}
    found = []
    for metric in (key for key in whole if not key.endswith(SUFFIXES)):
        unit, better = getattr(task, "metrics", {}).get(metric, ("", ""))
        low, high, n = (whole[metric + suffix] for suffix in SUFFIXES)
        against = "" if subject == "before" else " from plain text"
        note, hidden = f"model minus {subject}, item by item", len(mine) - len(clean)
        label = f"{metric}_change{against.replace(' ', '_')}"
        found.append(row(name, label, "model", whole[metric], low, high, n, unit, better, Twin.of(twin, metric), hidden, note))
    return found + flip_rows(name, task, mine, other, subject, seen, rng)


def flip_rows(
    name: str, task: Task, mine: Sequence[Graded], other: Sequence[Graded], subject: str, seen: AbstractSet[str], rng: Rng
) -> list[dict[str, Any]]:
    """`<metric>_negative_flips`: the share of items that the other answered rightly and the model does not, which a better mean hides.

    Source: P034 Echterhoff et al. 2024, arXiv 2407.09435. No row where questions are not answered rightly or wrongly.
    """
    clean = [i for i, (item, _, _) in enumerate(mine) if item.id not in seen]
    found = []
    for chosen in (range(len(mine)), clean):
        (now, groups), (before, _) = (rights(task, [graded[i] for i in chosen]) for graded in (mine, other))
        flips = [float(a < b) for a, b in zip(now, before, strict=True)] if len(now) == len(before) else []
        found.append(share(flips, groups, rng) if flips else None)
    whole, again = found
    if whole is None:
        return []
    twin = twin_of(again) if again else NONE
    metric, note = next(iter(getattr(task, "metrics", {"score": ()}))), f"right by {subject} and wrong by the model"
    label = f"{metric}_negative_flips{'' if subject == 'before' else '_from_plain_text'}"
    return [row(name, label, "model", whole.value, whole.low, whole.high, whole.n, "share", "lower", twin, len(mine) - len(clean), note)]


def twin_of(found: Interval) -> Twin:
    """An interval over clean items."""
    return Twin(found.value, found.low, found.high, found.n)


def compared(task: Task, mine: Sequence[Graded], other: Sequence[Graded], rng: Rng) -> dict[str, float]:
    """The task's own paired differences, or that of its first metric where this is the mean score; else none."""
    if hasattr(task, "compare"):
        return task.compare(mine, other, rng)
    scores = [[grade.score for _, _, grade in graded] for graded in (mine, other)]
    metric = next(iter(getattr(task, "metrics", {"score": ()})))
    whole = task.summary(mine, rng).get(metric)
    if whole is None or not math.isclose(whole, math.fsum(scores[0]) / len(mine), rel_tol=1e-9, abs_tol=1e-12):
        return {}
    return mean_change(*scores, [item.group for item, _, _ in mine], rng).named(metric)


def rights(task: Task, graded: Sequence[Graded]) -> tuple[list[float], list[str]]:
    """1 for each question that was answered rightly, 0 for the others, and their groups; nothing of a task that has no right and wrong."""
    if hasattr(task, "rights"):
        return task.rights(graded)
    unit, *_ = next(iter(getattr(task, "metrics", {"score": ("share",)}).values()))
    scores = [grade.score for _, _, grade in graded] if unit == "share" else [0.5]
    return (scores, [item.group for item, _, _ in graded]) if all(score in (0, 1) for score in scores) else ([], [])


def advantage(mine: Sequence[Graded], theirs: Sequence[Graded], rng: Rng) -> Any:
    """Bits per byte of a rival minus the model's, as an interval: what is hard for both cancels."""
    bits = [[grade.parts["bits"] for _, _, grade in graded] for graded in (theirs, mine)]
    size, groups = [grade.parts["bytes"] for _, _, grade in mine], [item.group for item, _, _ in mine]
    return paired(*bits, size, groups, rng)
