"""Tasks of lm-evaluation-harness: opened by name, asked through infer/harness.py, and told item by item.

Filters, metrics and their sums are lm-eval's own code; intervals, clean twins and paired differences are bloomery's.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bloomery.core.errors import BadInput, near
from bloomery.core.recipe import texts_in
from bloomery.infer.harness import WRITTEN, Harness
from bloomery.infer.harness_index import manager
from bloomery.infer.scores import NONE, Twin, row, twin_of
from bloomery.num.statistics import Interval, bootstrap, wilson
from bloomery.seams import Rng

SEED = 1234  # that draws examples, as lm-eval's own command has it
COUNTED = 64  # items of a task by which its load is judged
LETTER = 3  # bytes of an answer that is no more than a letter


@dataclass(frozen=True)
class Wanted:
    """What is asked of lm-eval: `names` of tasks, groups or tags, and where further ones lie."""

    names: tuple[str, ...]
    folder: Path | None = None
    shots: int | None = None  # examples before each question; None: as each task says
    limit: int | None = None  # items of each task at most, the first ones
    chat: bool = False  # questions are laid out by the chat template, examples as turns of it


@dataclass(frozen=True)
class Load:
    """What tasks ask of a model: items, requests, bytes of text that are read, and tokens that are written at most."""

    items: int
    requests: int
    bytes: float
    written: float


@dataclass
class Measured:
    """One task: an item a document, and for each metric its value, the values of items in order, and how they are put together."""

    name: str
    items: dict[str, dict[str, Any]] = field(default_factory=dict)  # by id: requests with what came back, what was wanted, scores
    texts: list[list[str]] = field(default_factory=list)  # what each document holds, for the search in training text
    whole: dict[str, float] = field(default_factory=dict)
    values: dict[str, list[Any]] = field(default_factory=dict)
    together: dict[str, Callable[[list[Any]], float]] = field(default_factory=dict)
    better: dict[str, str] = field(default_factory=dict)
    shots: int = 0


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Inside, lm-eval says only what is wrong, and draws no bars of its own; nor is every vain look at a hub told."""
    from lm_eval.api import task

    loggers = [logging.getLogger(name) for name in ("lm_eval", "huggingface_hub")]
    levels, bar = [one.level for one in loggers], task.tqdm
    task.tqdm = lambda rows, **_: rows
    for one in loggers:
        one.setLevel(logging.CRITICAL if one.name == "huggingface_hub" else logging.ERROR)
    try:
        yield
    finally:
        task.tqdm = bar
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


def opened(wanted: Wanted) -> dict[str, Any]:
    """Tasks and groups, their data read, as lm-eval's `evaluate` takes them; paths in a task are looked for in the folder, if any.

    BadInput for what is not known or cannot be run here.
    """
    from datasets.exceptions import DatasetNotFoundError

    folder = wanted.folder.resolve() if wanted.folder is not None else None
    with _quiet(), contextlib.chdir(folder) if folder is not None else contextlib.nullcontext():
        known = manager(wanted.names, folder)
        for name in wanted.names:
            if name not in known.all_tasks:
                raise BadInput(f"lm_eval: there is no task {name!r}; {near(name, list(known.all_tasks))}")
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # bars of the reading of data
                found = known.load(list(wanted.names))
        except Exception as error:  # a task is somebody's program, which may fail in any way
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            names = ", ".join(wanted.names)
            if isinstance(error, ConnectionError | DatasetNotFoundError):
                mend = "run once where it can, or name tasks whose data lies in `lm_eval_folder`"
                raise NotHere(f"lm_eval: data of {names} is not here and cannot be fetched ({said[:200]}); {mend}") from error
            raise BadInput(
                f"lm_eval: {names} cannot be opened ({type(error).__name__}: {said[:200]}); mend the task or its data"
            ) from error
    for name, task in found["tasks"].items():
        if getattr(task, "UNSAFE_CODE", False):
            raise BadInput(f"lm_eval: {name} runs what the model writes outside a sandbox; use the tasks humaneval and mbpp of bloomery")
        if getattr(task, "MULTIMODAL", False):
            raise BadInput(f"lm_eval: {name} asks about pictures or sound; name tasks of text")
        said = task.get_config("num_fewshot")
        task.set_config(key="num_fewshot", value=(said or 0) if wanted.shots is None or said == 0 else wanted.shots)
        task.set_fewshot_seed(seed=SEED)
    return found


def measured(lm: Harness, wanted: Wanted) -> list[Measured]:
    """Every task asked of `lm`, and the groups, which have a value alone."""
    from lm_eval.evaluator import evaluate

    loaded = opened(wanted)
    with _quiet():
        found = evaluate(
            lm, loaded, limit=wanted.limit, bootstrap_iters=0, apply_chat_template=wanted.chat, fewshot_as_multiturn=wanted.chat
        )
    made = [_task(lm, name, loaded["tasks"][name], rows, found) for name, rows in found["samples"].items()]
    return made + [_group(name, numbers, found) for name, numbers in found.get("groups", {}).items()]


def _metrics(numbers: Mapping[str, Any]) -> dict[str, float]:
    """Those of lm-eval's figures that are metrics: `acc,none` is called `acc`, another filter stays in the name."""
    named = {key: value for key, value in numbers.items() if "," in key and not key.partition(",")[0].endswith("_stderr")}
    return {key.removesuffix(",none"): float(value) for key, value in named.items() if isinstance(value, int | float)}


def _better(name: str, metric: str, found: Mapping[str, Any]) -> str:
    said = found["higher_is_better"].get(name, {}).get(metric.partition(",")[0])
    return "" if said is None else "higher" if said else "lower"


class NotHere(BadInput):
    """A task's data is not on this machine."""


def load(wanted: Wanted) -> Load | None:
    """What the tasks ask, by the first COUNTED items of each, laid out in plain text; None where their data would have to be fetched.

    BadInput for a task that is not known.
    """
    try:
        with _offline():
            tasks = opened(wanted)["tasks"]
    except NotHere:
        return None
    items = requests = 0
    read = written = 0.0
    for task in tasks.values():
        count = min(len(task.eval_docs), wanted.limit or len(task.eval_docs))
        with _quiet(), contextlib.redirect_stderr(io.StringIO()):
            task.build_all_requests(limit=min(count, COUNTED))
        scale = count / max(1, min(count, COUNTED))
        asked = [(one.request_type, one.args) for one in task.instances]
        items, requests = items + count, requests + round(scale * len(asked))
        read += scale * _read(asked)
        written += scale * sum(_limit(args[1]) for kind, args in asked if kind == "generate_until")
    return Load(items, requests, read, written)


def _read(asked: Sequence[tuple[str, tuple[Any, ...]]]) -> float:
    """Bytes that a model reads: of choices that are one letter each, the question once."""
    together: dict[str, list[int]] = {}
    for kind, args in asked:
        together.setdefault(args[0], []).append(len(args[1].encode()) if kind == "loglikelihood" else 0)
    return sum(sum(ends) + len(context.encode()) * (1 if max(ends) <= LETTER else len(ends)) for context, ends in together.items())


def _limit(arguments: Mapping[str, Any]) -> int:
    """Tokens of a completion at most."""
    return int(arguments.get("max_gen_toks", WRITTEN))


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Inside, data is read from this machine alone."""
    import datasets
    import huggingface_hub

    places = [(datasets.config, "HF_HUB_OFFLINE"), (huggingface_hub.constants, "HF_HUB_OFFLINE")]
    before = [getattr(module, name) for module, name in places]
    for module, name in places:
        setattr(module, name, True)
    try:
        yield
    finally:
        for (module, name), value in zip(places, before, strict=True):
            setattr(module, name, value)


def documents(wanted: Wanted) -> Iterator[tuple[str, str, str, str]]:
    """Task, id, question and wanted answer of every document that tasks ask about, without examples; no model is needed."""
    for name, task in opened(wanted)["tasks"].items():
        has_choices = getattr(task.config, "doc_to_choice", None) is not None
        for number, doc in enumerate(task.eval_docs):
            target, choices = task.doc_to_target(doc), task.doc_to_choice(doc) if has_choices else []
            if isinstance(target, int) and 0 <= target < len(choices):
                target = choices[target]
            question = " ".join(texts_in(task.doc_to_text(doc))) or " ".join(texts_in(doc))
            yield name, str(number), question, " ".join(texts_in(target))


def _task(lm: Harness, name: str, task: Any, rows: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> Measured:
    one = Measured(name, whole=_metrics(found["results"][name]), shots=found["n-shot"].get(name, 0))
    sums = task.aggregation()
    for sample in rows:
        key = str(sample["doc_id"])
        if key not in one.items:
            requests = [lm.told(arguments) for arguments in sample["arguments"]]
            one.items[key] = {"id": key, "requests": requests, "wanted": _plain(sample["target"]), "scores": {}}
            one.texts.append(list(texts_in(sample["doc"])))
        for metric in sample["metrics"]:
            label = metric if sample["filter"] == "none" else f"{metric},{sample['filter']}"
            one.values.setdefault(label, []).append(sample[metric])
            one.items[key]["scores"][label] = _plain(sample[metric])
            one.together[label], one.better[label] = sums[metric], _better(name, label, found)
    return one


def _group(name: str, numbers: Mapping[str, Any], found: Mapping[str, Any]) -> Measured:
    whole = _metrics(numbers)
    return Measured(name, whole=whole, better={metric: _better(name, metric, found) for metric in whole})


def _plain(value: Any) -> Any:
    """A metric's value of one item as JSON has it."""
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return (
        value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value.tolist() if hasattr(value, "tolist") else value
    )


# ---- figures


def rows_of(one: Measured, seen: AbstractSet[str], rng: Rng, subject: str, note: str) -> list[dict[str, Any]]:
    """A row for each metric, with an interval over items and the clean twin; a group's has neither."""
    made = []
    clean = [i for i, key in enumerate(one.items) if key not in seen]
    for metric, value in one.whole.items():
        found, twin = None, NONE
        if metric in one.values:
            found = _interval(one, None, metric, range(len(one.items)), rng.child(metric))
            every = len(clean) == len(one.items)
            again = found if every else _interval(one, None, metric, clean, rng.child(metric)) if clean else None
            twin = Twin(value if every else again.value, again.low, again.high, again.n) if again else NONE
        low, high = (found.low, found.high) if found else (None, None)
        about = {"n": len(one.items), "better": one.better.get(metric, ""), "clean": twin, "contaminated": len(one.items) - len(clean)}
        made.append(row(one.name, metric, subject, value, low, high, note=note, **about))
    return made


def change_rows(mine: Measured, other: Measured, seen: AbstractSet[str], rng: Rng, subject: str) -> list[dict[str, Any]]:
    """Paired differences on the same items, `<metric>_change`: the model's figure minus the other's, both drawn together."""
    made = []
    clean = [i for i, key in enumerate(mine.items) if key not in seen]
    for metric in (name for name in mine.values if name in other.values and name in mine.whole):
        found = _interval(mine, other, metric, range(len(mine.items)), rng.child(metric))
        twin = twin_of(_interval(mine, other, metric, clean, rng.child(metric))) if clean else NONE
        about = {"n": found.n, "better": mine.better[metric], "clean": twin, "contaminated": len(mine.items) - len(clean)}
        note = f"model minus {subject}, item by item"
        made.append(row(mine.name, f"{metric}_change", "model", found.value, found.low, found.high, note=note, **about))
    return made


def _interval(mine: Measured, other: Measured | None, metric: str, places: Sequence[int], rng: Rng) -> Interval:
    """The metric over some items, or how far it is above the other's; of a share by `wilson` where all items are right, or all wrong."""

    def value(of: Measured, chosen: Sequence[int]) -> float:
        try:
            return float(of.together[metric]([of.values[metric][places[i]] for i in chosen]))
        except (ValueError, ZeroDivisionError, OverflowError):  # a draw on which the metric means nothing
            return float("nan")

    groups, values = [list(mine.items)[i] for i in places], [mine.values[metric][i] for i in places]
    alike = {float(one) if isinstance(one, int | float) else math.nan for one in values}
    if other is None and len(groups) > 1 and alike in ({0.0}, {1.0}) and {value(mine, range(len(groups)))} == alike:
        return wilson([one == 1 for one in values], groups)
    return bootstrap(lambda chosen: value(mine, chosen) - (value(other, chosen) if other else 0.0), groups, rng)
