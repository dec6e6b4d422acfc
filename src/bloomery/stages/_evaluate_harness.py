"""The part of evaluate that asks the tasks of lm-evaluation-harness."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.core.errors import BadInput

if TYPE_CHECKING:
    from bloomery.core.job import Job
    from bloomery.infer.answers import Examinee
    from bloomery.infer.harness_tasks import Load, Measured, Wanted
    from bloomery.stages.evaluate import Evaluate

AHEAD = "lm_eval."  # before the name of a task of lm-eval, in files of items
CHECKED = 2  # items of each task asked once more, alone


def demand() -> None:
    """BadInput where the package is missing."""
    if importlib.util.find_spec("lm_eval") is None:
        raise BadInput("lm_eval: the package is missing: pip install -c constraints.txt 'bloomery[lm-eval]'")


def wanted(stage: Evaluate) -> Wanted:
    from bloomery.infer.harness_tasks import Wanted

    folder = stage.lm_eval_folder.folder if stage.lm_eval_folder is not None else None
    return Wanted(stage.lm_eval, folder, stage.lm_eval_shots, stage.lm_eval_limit, stage.lm_eval_chat)


def load(stage: Evaluate, later: bool) -> tuple[Load | None, dict[str, Any]]:
    """What the tasks ask, without a model, and what the plan says of it: None where they come `later`, or their data from elsewhere."""
    from bloomery.infer.harness_tasks import load as counted

    found = None if later else counted(wanted(stage))
    return found, {"lm_eval_items": found.items, "lm_eval_requests": found.requests} if found else {"lm_eval_items": None}


def ask(stage: Evaluate, seats: Mapping[str, Examinee], endings: Mapping[str, str], rows: int, job: Job) -> dict[str, dict[str, Measured]]:
    """By subject, every task by name. Answered requests survive a kill, and none is asked twice."""
    from bloomery.data.journal import Journal
    from bloomery.infer.harness import Harness
    from bloomery.infer.harness_tasks import measured

    found = {}
    for subject, seat in seats.items():
        if seat.plain:
            continue  # how a question is laid out is the task's own business
        journal = Journal(job.work / "lm_eval" / f"requests{endings[subject]}.jsonl")
        label = "lm-eval" if subject == "model" else f"lm-eval, {subject}"
        with job.log.progress(label, unit="requests") as bar:
            how = {"rows": rows, "thought": stage.thought, "rng": job.rng.child("lm_eval")}
            lm = Harness(seat.model, journal, stopping=lambda: job.stopping, progress=bar, **how)
            found[subject] = {one.name: one for one in measured(lm, wanted(stage))}
    return found


def scores(told: Mapping[str, Mapping[str, Measured]], seen: Mapping[str, AbstractSet[str]], stage: Evaluate, job: Job) -> list[dict]:
    """Rows of every task and subject, and of how far the model is from the one compared with."""
    from bloomery.infer.harness_tasks import change_rows, rows_of

    made = []
    for subject, tasks in told.items():
        for name, one in tasks.items():
            rng = job.rng.child("lm_eval summary", name)
            way = f"fp32; lm-eval {installed()}; {one.shots} examples; {'by the chat template' if stage.lm_eval_chat else 'in plain text'}"
            made += rows_of(one, seen.get(AHEAD + name, set()), rng, subject, way)
            if subject != "model":
                made += change_rows(told["model"][name], one, seen.get(AHEAD + name, set()), rng, subject)
    return [{**row, "task": AHEAD + row["task"]} for row in made]


def facts(told: Mapping[str, Mapping[str, Measured]]) -> dict[str, Any]:
    """The model's own figures by task, for the card, with how many requests were cut at the left and how many replies held a trace."""
    made = {}
    for name, one in told.get("model", {}).items():
        requests = [request for item in one.items.values() for request in item["requests"]]
        cut, traces = (sum(request.get(what, 0) > 0 for request in requests) for what in ("dropped", "thought"))
        counts = {"items": len(one.items), "requests": len(requests), "truncated": cut, "reasoning_traces": traces}
        made[name] = {**(counts if requests else {}), **one.whole}
    return made


def texts(told: Mapping[str, Mapping[str, Measured]]) -> dict[str, dict[str, list[str]]]:
    """What the documents of each task hold, by task and id: all of it, then each of its texts."""
    found = {AHEAD + name: zip(one.items, one.texts, strict=True) for name, one in told.get("model", {}).items() if one.items}
    return {name: {key: [" ".join(parts), *parts] for key, parts in rows} for name, rows in found.items()}


def installed() -> str:
    from importlib.metadata import version

    return version("lm-eval")


def check(stage: Evaluate, seat: Examinee, made: Path, job: Job) -> None:
    """Some requests once more: likelihoods one by one, completions by a forward pass without padding or cache."""
    from bloomery.infer.exam import worst
    from bloomery.infer.harness import Harness

    lm = Harness(seat.model, thought=stage.thought, rng=job.rng.child("lm_eval"))
    alone, gap, items = 0.0, 0.0, 0
    for file in sorted((made / "items").glob(f"{AHEAD}*.jsonl")):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
        if file.name.endswith(".before.jsonl"):
            continue
        for item in rows[:: max(1, len(rows) // CHECKED)][:CHECKED]:
            for request in item["requests"]:
                items += 1
                differs, below = lm.again(request)
                alone, gap = worst(alone, differs), worst(gap, below)
    job.check("lm-eval: requests that could be asked again", 0 if items or not stage.lm_eval else 1, 0, note=f"{items} asked")
    job.check("lm-eval: likelihood of a request alone against in a batch, nats per token", alone, 1e-4)
    if not seat.model.combined:
        job.check("lm-eval: greedy choices below the best logit of a plain forward pass", gap, 1e-3)
