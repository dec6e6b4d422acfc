"""What evaluate will ask and how long that takes; rates as measured on two cores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bloomery.core.job import Forecast
from bloomery.stages import _evaluate_harness

if TYPE_CHECKING:
    from bloomery.core.machine import Machine
    from bloomery.stages.evaluate import Evaluate

ROW_BYTES, CONTEXT = 300, 2048  # of a question, and of a model in tokens, where the plan knows no better
INPUTS = ("model", "corpus", "tokens", "chats", "questions")


def forecast(stage: Evaluate, inputs: Mapping[str, Forecast], machine: Machine, together: int) -> Forecast:
    """Forward passes over the text asked for, completions, compressors, the n-gram model; `together` completions are written at a time.

    Facts: items, tokens read and written by one model, flops; of lm-eval's tasks whether they are in it.
    """
    facts = {name: inputs[name].facts if name in inputs else {} for name in INPUTS}
    parameters = facts["model"].get("parameters") or (facts["model"].get("bytes") or 2e7) / 4
    per_byte = 1 / (facts["tokens"].get("bytes_per_token") or 3.0)
    held_out = facts["corpus"].get("heldout_bytes") or 1e6
    text = sum(min(getattr(task, "bytes", 0), held_out) for task in stage.tasks)
    items, read, written = _questions(stage, facts["questions"])
    later = "lm_eval_folder" in inputs and stage.lm_eval_folder is None  # its tasks are still to be made
    harness, said = _evaluate_harness.load(stage, later) if stage.lm_eval else (None, {})
    if harness is not None:
        items, read, written = items + harness.items, read + harness.bytes * per_byte, written + harness.written
    steps, models = written / together, 3 if "against" in inputs else 1  # the other one is asked conversations in two ways
    tokens = text * per_byte + read + written
    flops = 2 * parameters * tokens * models
    fitted = min(stage.ngram_tokens, facts["tokens"].get("train_tokens") or 0) * ("ngram" in stage.rivals)
    seconds = flops / (0.3 * machine.matmul_flops.get("float32", 1e11)) + 0.008 * steps * models + 5e-7 * fitted
    seconds += 6e-6 * text * ("xz" in stage.rivals) + 3 * (stage.batch > 0) + 6
    told = {"flops": flops, "items": round(items), "tokens": round(tokens), **said}
    return Forecast(seconds, memory=8e8 + 8 * parameters * models + 80 * fitted, disk=1e6 + 200 * steps, facts=told)


def _questions(stage: Evaluate, questions: Mapping[str, Any]) -> tuple[float, float, float]:
    """Items of bloomery's own tasks, the tokens of what is asked, and the tokens written at most."""
    tries = getattr(stage.rollout, "samples", 1)
    rows = (questions.get("bytes") or 0) / ROW_BYTES  # a task that says no number asks all that there are
    items = read = written = 0.0
    for task in stage.tasks:
        number = (getattr(task, "count", None) or (rows if hasattr(task, "count") else 0)) * getattr(task, "samples", 1)
        long = getattr(task, "tokens", None) or (CONTEXT if hasattr(task, "tokens") else getattr(task, "prompt", 150))
        items, read, written = items + number, read + number * long, written + number * getattr(task, "limit", 0) * tries
    return items, read, written
