"""What an evaluation asks, as items to be looked for in a corpus: of recipes, tasks, lm-eval tasks, files and folders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.core.errors import BadInput
from bloomery.data.contamination import ExamItem
from bloomery.seams import Item, Rng, Source

if TYPE_CHECKING:
    from bloomery.core.recipe import Ref, Step

YAML = (".yaml", ".yml")


@dataclass
class Exams:
    """Items found so far, and what was named and gives none, with the reason."""

    items: list[ExamItem] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def add(self, found: Sequence[ExamItem]) -> None:
        """Equal items of a set once."""
        known = {(one.set, one.question, one.answer) for one in self.items}
        for one in found:
            if (key := (one.set, one.question, one.answer)) not in known:
                known.add(key)
                self.items.append(one)

    def leave(self, why: str) -> None:
        """A clause about what is not looked for, once."""
        if why not in self.left_out:
            self.left_out.append(why)


def gathered(named: Sequence[str], question: str = "", answer: str = "", seed: int = 0, store: Path | None = None) -> Exams:
    """The items of everything named: a recipe's evaluate steps, a task that makes its own items, a YAML task of lm-eval or a folder of
    them, a file or a folder of items. `question` and `answer` name columns. BadInput where something is unknown or nothing is found."""
    from bloomery.core import catalog
    from bloomery.data.exam_items import files_of, kind_of, read_items

    exams = Exams()
    if not named:
        raise BadInput("--against: name a recipe, a file or folder of items, or a task, such as --against exam.jsonl")
    for one in named:
        path = Path(one).expanduser()
        if path.is_dir() and (tasks := [file for file in sorted(path.rglob("*")) if _names_a_task(file)]):
            exams.add(_harness([_task_name(file) for file in tasks], path))
            if beside := [file.name for file in sorted(path.rglob("*")) if file.is_file() and kind_of(file)]:
                exams.leave(f"files of {path} beside its tasks, such as {beside[0]}, but for what the tasks read of them; name them too")
        elif path.is_dir():
            for file in files_of(path):
                exams.add(read_items(file, question, answer, str(file.relative_to(path))))
        elif path.is_file() and path.suffix in YAML:
            exams.add(_harness([_task_name(path)], path.parent)) if _names_a_task(path) else _recipe(path, exams, store)
        elif path.is_file():
            exams.add(read_items(path, question, answer))
        elif one in catalog.entries("task"):
            _task(one, one, Source(tokenizer=_Words()), seed, exams)
        else:
            raise BadInput(f"--against: {one} is no file, folder or task; name a recipe, items in files, or a task such as programs")
    if not exams.items:
        raise BadInput(f"--against: nothing to look for: {'; '.join(exams.left_out)}")
    return exams


# ---- recipes and tasks


def _recipe(path: Path, exams: Exams, store: Path | None) -> None:
    """What the evaluate steps of a recipe ask; what they take from held-out documents is left out, as `guard` keeps these apart."""
    from bloomery.core import recipe as recipes

    steps = [step for step in recipes.read(path).steps.values() if step.stage.name == "evaluate"]
    if not steps:
        raise BadInput(f"--against: {path} has no step with `stage: evaluate`; name a recipe that evaluates, or the items themselves")
    for step in steps:
        source = Source(tokenizer=_Words(), questions=_questions(step, exams, store))
        for name, spec in _named(step.knobs["tasks"]).items():
            _task(name, spec, source, step.seed, exams)
        if names := step.knobs.get("lm_eval"):
            folder = _folder(step, "lm_eval_folder", exams, store)
            exams.add(_harness(list(names), folder))


def _named(specs: Sequence[Any]) -> dict[str, Any]:
    """Tasks as evaluate names them: a second one of a kind gets a number."""
    found: dict[str, Any] = {}
    for spec in specs:
        name = spec if isinstance(spec, str) else next(iter(spec))
        same = sum(re.fullmatch(rf"{re.escape(name)}(_\d+)?", other) is not None for other in found)
        found[f"{name}_{same + 1}" if same else name] = spec
    return found


def _questions(step: Step, exams: Exams, store: Path | None) -> dict[str, Any]:
    from bloomery.data.questions import read_questions

    folder = _folder(step, "questions", exams, store)
    return read_questions(folder) if folder is not None else {}


def _folder(step: Step, knob: str, exams: Exams, store: Path | None) -> Path | None:
    """The folder that a knob names; None where it names none, or one that is still to be made, which is said."""
    from bloomery.core.store import Store

    refs: tuple[Ref, ...] = step.inputs.get(knob, ())
    if not refs:
        return None
    if refs[0].folder:
        return Path(refs[0].folder)
    if refs[0].artifact and store is not None:
        return Store(store, make=False).get(refs[0].artifact).folder
    exams.leave(f"{step.place}.{knob}: {refs[0]} is made by the recipe; name its folder")
    return None


class _Words:
    """What stands in for a model's tokenizer: words with the space before them. Where a task needs more of a model it makes no items."""

    def encode(self, text: str) -> list[str]:
        return re.findall(r"\s*\S+|\s+$", text)

    def decode(self, ids: Sequence[str]) -> str:
        return "".join(ids)


def _task(name: str, spec: Any, source: Source, seed: int, exams: Exams) -> None:
    """The items that evaluate draws for a task under this seed."""
    from bloomery.core import catalog

    task = catalog.build_method("task", spec, "--against")
    if getattr(task, "trained", False):
        exams.leave(f"{name} asks about training text")
        return
    try:
        items = list(task.items(source, Rng((seed, "evaluate")).child("items", name)))
    except (AttributeError, TypeError):  # it asks for a model's context
        items = []
    found = [_sought(name, item) for item in items if item.kind != "wrong"]
    if not found:
        exams.leave(f"{name} makes its items from held-out documents, from conversations or to fit a model's context")
    exams.add(found)


def _sought(name: str, item: Item) -> ExamItem:
    asked = "\n".join(text for _, text in item.messages) if item.messages else item.prompt
    return ExamItem(name, item.id, asked, item.target)


# ---- tasks of lm-eval


def _names_a_task(file: Path) -> bool:
    """Whether a YAML file is a task of lm-eval."""
    if file.suffix not in YAML or not file.is_file():
        return False
    return re.search(r"^task\s*:\s*\S", file.read_text(encoding="utf-8", errors="replace"), re.MULTILINE) is not None


def _task_name(file: Path) -> str:
    """The name that a YAML task gives itself, without reading what it includes or runs."""
    found = re.search(r"^task\s*:\s*[\"']?([^\"'#\n]+)", file.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    return found[1].strip() if found else file.stem


def _harness(names: Sequence[str], folder: Path | None) -> list[ExamItem]:
    """Every document of tasks of lm-eval: what is asked, and what is wanted of it."""
    import importlib.util

    if importlib.util.find_spec("lm_eval") is None:
        raise BadInput("--against: lm-eval is missing, which reads these tasks: pip install -c constraints.txt 'bloomery[lm-eval]'")
    from bloomery.infer.harness_tasks import Wanted, documents

    return [ExamItem(f"lm_eval.{task}", key, asked, wanted) for task, key, asked, wanted in documents(Wanted(tuple(names), folder))]
