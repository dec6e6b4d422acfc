"""Which of lm-eval's many thousand YAML files name the tasks asked for: texts are searched, and only what speaks of a name is read.

A name may be that of a task, of a group, whose members are names again, or of a tag, which a file may take from one that it includes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

INCLUDED = re.compile(r"^include\s*:(.*(?:\n\s*-.*)*)", re.MULTILINE)


def manager(names: Collection[str], folder: Path | None) -> Any:
    """A TaskManager of lm-eval that knows the names and what belongs to them, with the tasks of `folder`, which stand above lm-eval's own;
    one of all tasks where a name is not found."""
    from lm_eval import tasks
    from lm_eval.tasks import TaskManager

    own = [str(folder)] if folder is not None else None
    made = TaskManager(include_path=own, include_defaults=False)
    if lacking := reached(names, made.task_index) - set(made.all_tasks):
        index = {**indexed(definitions(lacking, Path(tasks.__file__).parent)), **made.task_index}
        made._index, made._all_tasks = index, sorted(index)  # there is no other way to hand it some files of a folder
    return made if set(names) <= set(made.all_tasks) else TaskManager(include_path=own)


def indexed(configs: Mapping[Path, Mapping[str, Any]]) -> dict[str, Any]:
    """lm-eval's entries of files, of equal names the first."""
    from lm_eval.tasks._index import TaskIndex

    index: dict[str, Any] = {}
    for path in sorted(configs, key=Path.as_posix):
        TaskIndex.process_cfg(dict(configs[path]), path, index)
    return index


def definitions(names: Collection[str], root: Path) -> dict[Path, dict[str, Any]]:
    """The files below `root` in which the names are defined, and those of the members of groups among them, with what they hold."""
    texts = {path: path.read_text(encoding="utf-8", errors="replace") for path in sorted(root.rglob("*.yaml"))}
    known: set[str] = set()
    found: dict[Path, dict[str, Any]] = {}
    while new := set(names) - known:
        known |= new
        for path in mentioning(new, texts) - set(found):
            config = read(path)
            if new & named(config):
                found[path] = config
                names = {*names, *(members(config) if config.get("group") in known else ())}
    return found


def mentioning(names: Collection[str], texts: Mapping[Path, str]) -> set[Path]:
    """The files in which a name stands as a word, or in what they include."""
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, sorted(names)))})(?!\w)")
    shared: dict[Path, bool] = {}

    def speaks(path: Path, text: str, above: tuple[Path, ...] = ()) -> bool:
        return bool(pattern.search(text)) or any(included(path.parent / one, (*above, path)) for one in includes(text))

    def included(path: Path, above: tuple[Path, ...]) -> bool:
        path = path.resolve()
        if path not in shared:
            readable = path.is_file() and path not in above
            shared[path] = readable and speaks(path, path.read_text(encoding="utf-8", errors="replace"), above)
        return shared[path]

    return {path for path, text in texts.items() if speaks(path, text)}


def includes(text: str) -> Iterator[str]:
    """The files that a YAML text includes."""
    for found in INCLUDED.findall(text):
        yield from (one.strip(" \t\"'-[]") for one in re.split(r"[\n,]", found.partition("#")[0]) if one.strip(" \t\"'-[]"))


def read(path: Path) -> dict[str, Any]:
    """A file's content with what it includes; nothing of one that lm-eval cannot read."""
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        return load_yaml(path, resolve_func=False)
    except Exception:  # lm-eval passes over such files too
        return {}


def named(config: Mapping[str, Any]) -> set[str]:
    """What a file defines: a task or a group, and the tags that its task has."""
    tags = config.get("tag") or []
    own = [config.get("group") or config.get("task"), *([tags] if isinstance(tags, str) else tags)]
    return {one for one in own if isinstance(one, str)}


def members(config: Mapping[str, Any]) -> set[str]:
    """The names in a group, and in groups that it spells out."""
    found: set[str] = set()
    for one in config["task"] if isinstance(config.get("task"), list) else ():
        if isinstance(one, str):
            found.add(one)
        elif isinstance(one, dict):
            found |= {name for key in ("task", "group") if isinstance(name := one.get(key), str)}
            found |= members(one)
    return found


def reached(names: Collection[str], index: Mapping[str, Any]) -> set[str]:
    """The names, and those of all members of groups that an index knows."""
    found, waiting = set(names), list(names)
    while waiting:
        entry = index.get(waiting.pop())
        more = members(entry.cfg) - found if entry is not None and entry.cfg and "group" in entry.cfg else set()
        found |= more
        waiting += more
    return found
