"""Models side by side by their evaluations: scores with clean twins, cost, paired differences, and curves over training.

Differences are of the same items, drawn together, by each task's own comparison. Of many differences some lie outside their interval by
chance: `adjusted` is the p-value after Holm 1979, "A simple sequentially rejective multiple test procedure", over all differences of a
comparison. p is that of the normal distribution whose 95% interval is as wide as the bootstrap's, and never below what a test of signs
over as many groups could give at best.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bloomery.core.errors import BadInput
from bloomery.seams import Item, Rng, Task

if TYPE_CHECKING:
    from bloomery.core.store import Artifact, Store

QUANTILE = 1.959964  # of the normal distribution: half a 95% interval in standard errors
HARNESS = "lm_eval."
APART = ("speed", "size")  # tasks whose figures are no scores
LEADS = ("after", "model", "start")  # knobs by which a model goes on from another
TRAINS = ("pretrain", "tune", "align")  # stages


@dataclass(frozen=True)
class Evaluated:
    """One evaluation: its name on the page, its scores of the model, its items by task, the tasks, what it cost."""

    name: str
    scores: tuple[Mapping[str, Any], ...]
    items: Mapping[str, Mapping[str, Mapping[str, Any]]]  # task, id: the line that was written down
    tasks: Mapping[str, Task]
    about: Mapping[str, Any]
    line: tuple[str, ...]  # addresses of the model and of those that it goes on from, itself first
    trained: Mapping[str, tuple[float, float]]  # address of each: tokens trained on in all, and seconds


def compared(names: Sequence[str], store: Store) -> dict[str, Any]:
    """Everything that a comparison shows, as JSON has it: `models`, `scores`, `differences` (each minus the first one) and `curves`.

    BadInput for a name that is no evaluation, and for fewer than two.
    """
    if len(names) < 2:
        raise BadInput("compare: name two evaluations at least, or --seam with methods of it")
    found = _opened([store.get(name.removeprefix("@")) for name in names], store)
    return {
        "models": [{"name": one.name, **one.about} for one in found],
        "scores": _scores(found),
        "differences": differences(found, Rng(("compare", *(one.about["evaluation"] for one in found)))),
        "curves": _curves(found),
    }


# ---- reading


def _opened(artifacts: Sequence[Artifact], store: Store) -> list[Evaluated]:
    for one in artifacts:
        if one.kind != "scores":
            raise BadInput(f"compare: {one.name} is a {one.kind}, not an evaluation; name scores, or --seam with methods of it")
    made = [(one, *_line(one, store)) for one in artifacts]
    called = [models[0][1] if models else one.name for one, models, _ in made]
    steps = [one.card.get("step") or one.name for one in artifacts]
    names = [name if called.count(name) == 1 else f"{name} ({step})" for name, step in zip(called, steps, strict=True)]
    names = [name if names.count(name) == 1 else f"{name} {one.address[:6]}" for name, one in zip(names, artifacts, strict=True)]
    return [_evaluated(name, *each) for name, each in zip(names, made, strict=True)]


def _line(scores: Artifact, store: Store) -> tuple[list[tuple[str, str, Mapping[str, Any]]], str]:
    """The model and those that it goes on from, each as (address, name, card), and the clause about what is not at hand."""
    from bloomery.core.inputs import ancestor

    line: list[tuple[str, str, Mapping[str, Any]]] = []
    one, address = scores, next(iter(scores.inputs.get("model", [])), None)
    while address is not None and address not in [known for known, _, _ in line]:
        try:
            one = ancestor(one, address, store)
        except BadInput:
            return line, "an earlier model is not at hand"
        line.append((address, str(one.card.get("step") or one.name), one.card))
        address = next((found[0] for knob in LEADS if (found := one.inputs.get(knob))), None)
    return line, ""


def _evaluated(name: str, scores: Artifact, line: Sequence[tuple[str, str, Mapping[str, Any]]], missing: str) -> Evaluated:
    rows = json.loads(scores.path("scores.json").read_text(encoding="utf-8"))["scores"]
    files = sorted(scores.path("items").glob("*.jsonl")) if scores.path("items").is_dir() else []
    items = {file.stem: {row["id"]: row for row in _lines(file)} for file in files if not file.stem.endswith((".before", ".before-plain"))}
    trained, total = {}, (0.0, 0.0)
    for address, _, card in reversed(line):
        facts, cost = card.get("facts") or {}, card.get("cost") or {}
        if card.get("stage") in TRAINS:
            total = total[0] + float(facts.get("tokens") or 0), total[1] + float(cost.get("seconds") or 0)
        trained[address] = total
    own = line[0][2] if line else {}
    about = {
        "evaluation": scores.name, "step": scores.card.get("step", ""), "model": line[0][1] if line else "",
        "parameters": (own.get("facts") or {}).get("parameters"), "trained_tokens": total[0] or None, "training_seconds": total[1] or None,
        **_cost(scores, items), "training_text": scores.facts.get("training_text"), "note": missing,
    }  # fmt: skip
    mine = tuple(row for row in rows if row["subject"] == "model" or row["task"] in APART)
    return Evaluated(name, mine, items, _tasks(scores), about, tuple(address for address, _, _ in line), trained)


def _lines(file: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


def _cost(scores: Artifact, items: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Seconds of the evaluation, its items, and the tokens that its own tasks read and wrote."""
    rows = [row for found in items.values() for row in found.values()]
    written = sum(row["tokens"] for row in rows if "text" in row)
    read = sum(row.get("prompt_tokens", 0) + (0 if "text" in row else row.get("tokens", 0)) for row in rows)
    requests = sum(len(row.get("requests", ())) for row in rows)
    seconds = (scores.card.get("cost") or {}).get("seconds")
    return {"items": len(rows), "requests": requests, "tokens_read": read, "tokens_written": written, "seconds": seconds}


def _tasks(scores: Artifact) -> dict[str, Task]:
    """The evaluation's tasks by name; those that this version no longer has are left out, and so are their differences."""
    from bloomery.core import catalog
    from bloomery.stages.evaluate import named

    built = []
    for spec in scores.card["knobs"].get("tasks") or ():
        try:
            built.append(catalog.build_method("task", spec))
        except BadInput:
            return {}
    return named(built)


# ---- scores and curves


def _scores(found: Sequence[Evaluated]) -> list[dict[str, Any]]:
    """A row for each figure that more than one has, with each one's value, interval and clean twin."""
    tables = [{(row["task"], row["metric"], _subject(row)): row for row in one.scores if row["value"] is not None} for one in found]
    keys = [key for key in dict.fromkeys(key for table in tables for key in table) if sum(key in table for table in tables) > 1]
    keys = [key for key in keys if not key[1].endswith("_change") and "_change_from_" not in key[1]]
    keys.sort(key=lambda key: key[0] in APART)
    made = []
    for task, metric, subject in keys:
        cells = [table.get((task, metric, subject)) for table in tables]
        some = next(cell for cell in cells if cell)
        about = {"task": task, "metric": metric, "subject": subject, "unit": some["unit"], "better": some["better"]}
        made.append({**about, "values": cells})
    return made


def _subject(row: Mapping[str, Any]) -> str:
    return "" if row["subject"] == "model" else row["subject"]


def _curves(found: Sequence[Evaluated]) -> list[dict[str, Any]]:
    """Scores over training, of models that go on from one another: a series for each last one, with (tokens, seconds, value, low, high)."""
    by_model = {one.line[0]: one for one in found if one.line and one.trained[one.line[0]][0]}
    inner = {address for one in by_model.values() for address in one.line[1:]}
    chains = [[by_model[a] for a in reversed(one.line) if a in by_model] for a, one in by_model.items() if a not in inner]
    chains = [chain for chain in chains if len({one.trained[one.line[0]][0] for one in chain}) > 1]
    made: dict[tuple[str, str], dict[str, Any]] = {}
    for chain in chains:
        for row in (row for row in chain[-1].scores if row["task"] not in APART and "_change" not in row["metric"]):
            points = []
            for one in chain:
                same = _score(one, row["task"], row["metric"])
                if same and same["value"] is not None:
                    points.append([*one.trained[one.line[0]], same["value"], same["low"], same["high"]])
            if len(points) > 1:
                about = {"task": row["task"], "metric": row["metric"], "unit": row["unit"], "better": row["better"], "series": []}
                made.setdefault((row["task"], row["metric"]), about)["series"].append({"name": chain[-1].name, "points": points})
    return list(made.values())


# ---- differences


def differences(found: Sequence[Evaluated], rng: Rng) -> list[dict[str, Any]]:
    """Every figure of each evaluation minus that of the first, over the items that both were asked."""
    first, made = found[0], []
    for other in found[1:]:
        for task in (name for name in first.items if name in other.items):
            both = [key for key, row in first.items[task].items() if _asked(row) == _asked(other.items[task].get(key, {}))]
            if both:
                pair = [[one.items[task][key] for key in both] for one in (other, first)]
                made += _paired(task, other, first, pair, rng.child(other.name, task))
    return _adjusted(made)


def _asked(row: Mapping[str, Any]) -> Any:
    """What makes two lines the same item."""
    if "requests" in row:
        return [request["arguments"] for request in row["requests"]], row["wanted"]
    return row.get("prompt"), row.get("messages"), row.get("target")


def _paired(task: str, other: Evaluated, first: Evaluated, pair: Sequence[Sequence[Mapping]], rng: Rng) -> list[dict[str, Any]]:
    """The differences of one task, with their clean twins: over items that neither has in its training text."""
    clean = [i for i, rows in enumerate(zip(*pair, strict=True)) if not any(row.get("contaminated") for row in rows)]
    whole = _measured(task, other, first, pair, rng)
    known = all(_twins_known(one, task) for one in (other, first))
    kept = [[rows[i] for i in clean] for rows in pair]
    twin = whole if len(clean) == len(pair[0]) else _measured(task, other, first, kept, rng) if clean else {}
    made, groups = [], len({row.get("group") or row["id"] for row in pair[0]})
    for metric in (key for key in whole if not key.endswith((".low", ".high", ".n"))):
        score = _score(first, task, metric) or {"unit": "", "better": ""}
        about = {"task": task, "metric": metric, "unit": score["unit"], "better": score["better"], "model": other.name, "minus": first.name}
        value = {"value": whole[metric], **{name: _number(whole[f"{metric}.{name}"]) for name in ("low", "high")}}
        names = {"clean": metric, "clean_low": f"{metric}.low", "clean_high": f"{metric}.high"}
        again = {name: _number(twin.get(key)) if known else None for name, key in names.items()}
        made.append({**about, **value, "n": int(whole[f"{metric}.n"]), "groups": groups, **again})
    return made


def _score(one: Evaluated, task: str, metric: str) -> Mapping[str, Any] | None:
    """The model's own row of a figure."""
    return next((row for row in one.scores if (row["task"], row["metric"], row["subject"]) == (task, metric, "model")), None)


def _twins_known(one: Evaluated, task: str) -> bool:
    return any(row["task"] == task and row.get("clean") is not None for row in one.scores)


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _measured(task: str, other: Evaluated, first: Evaluated, pair: Sequence[Sequence[Mapping]], rng: Rng) -> dict[str, float]:
    """By the task's own comparison; of lm-eval's tasks those metrics that are means over items."""
    from bloomery.infer.answers import graded
    from bloomery.infer.scores import compared as by_task
    from bloomery.num.changes import mean_change

    if task in other.tasks and task in first.tasks:
        if getattr(first.tasks[task], "trained", False):
            return {}  # members of the one's training text are not the other's
        return by_task(first.tasks[task], *([graded(_item(row), row) for row in rows] for rows in pair), rng)
    found: dict[str, float] = {}
    for metric in pair[0][0].get("scores", {}) if task.startswith(HARNESS) else ():
        values = [[row["scores"].get(metric) for row in rows] for rows in pair]
        if all(_is_mean(one, task, metric) for one in (other, first)) and all(isinstance(v, int | float) for side in values for v in side):
            found |= mean_change(*values, [row["id"] for row in pair[0]], rng.child(metric)).named(metric)
    return found


def _is_mean(one: Evaluated, task: str, metric: str) -> bool:
    """Whether a metric's figure is the mean over the items."""
    values = [row["scores"].get(metric) for row in one.items[task].values()]
    whole = (_score(one, task, metric) or {}).get("value")
    if whole is None or not all(isinstance(value, int | float) for value in values):
        return False
    return math.isclose(math.fsum(values) / len(values), whole, rel_tol=1e-6, abs_tol=1e-9)


def _item(row: Mapping[str, Any]) -> Item:
    messages = tuple((role, text) for role, text in row.get("messages", ()))
    want = "generate" if "text" in row else "score"
    about = {"group": row["group"] or row["id"], "kind": row.get("kind", ""), "messages": messages, "question": row.get("question", "")}
    return Item(row["id"], row.get("prompt", ""), want, row.get("target", ""), **about)


def _adjusted(made: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """With p-values, and those after Holm over all that have one."""
    found = [{**one, "p": _p(one), "adjusted": None} for one in made]
    order = sorted((one for one in found if one["p"] is not None), key=lambda one: one["p"])
    largest = 0.0
    for i, one in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - i) * one["p"]))
        one["adjusted"] = largest
    return found


def _p(one: Mapping[str, Any]) -> float | None:
    if one["low"] is None or one["high"] is None:
        return None
    least = 2.0 ** (1 - one["groups"])  # that signs drawn at random all fall on one side, which no fewer groups can undercut
    error = (one["high"] - one["low"]) / (2 * QUANTILE)
    return max(least, math.erfc(abs(one["value"]) / error / math.sqrt(2)) if error > 0 else float(one["value"] == 0))
