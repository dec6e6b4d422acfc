"""Markdown files: the text as it is; YAML or TOML front matter is taken off and becomes what is known of the document."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

from bloomery.data.documents import Broken, Task
from bloomery.data.read import text
from bloomery.data.sources import Source, fingerprint_files
from bloomery.seams import Doc

fingerprint = fingerprint_files
size, tasks = text.size, text.tasks
MARKS = {"---": "yaml", "+++": "toml"}
LONGEST = 1 << 16  # characters of front matter
LICENCES = ("licence", "license")


def check(source: Source) -> None:
    """What is asked of a text file."""
    text.check(source)


def read(task: Task) -> Iterator[Doc | Broken]:
    """One document per file; what its front matter says is `front`, and of that title, date and licence by themselves."""
    for path, name in task.where:
        found = text.read_file(task, path, name, text.package_of(name))
        if isinstance(found, Doc):
            front, found.text = parted(found.text)
            if front:
                adopt(found, front)
        yield found


def adopt(doc: Doc, front: dict[str, Any]) -> None:
    """Put front matter into what is known of a document."""
    meta = doc.meta
    meta["front"] = front
    meta["bytes"] = len(doc.text.encode())
    for name in ("title", "date"):
        if isinstance(front.get(name), str):
            meta[name] = front[name]
    meta["licence"] = meta["licence"] or next((front[name] for name in LICENCES if isinstance(front.get(name), str)), "")


def parted(whole: str) -> tuple[dict[str, Any], str]:
    """Front matter as plain JSON values, and the text after it; all of the text, where it begins with none that can be read."""
    body = whole.removeprefix("\ufeff")
    mark = body[:3]
    first, _, rest = body[: LONGEST + 8].partition("\n")
    if mark not in MARKS or first.rstrip() != mark:
        return {}, whole
    lines, length = [], len(first) + 1
    for line in rest.split("\n"):
        length += len(line) + 1
        if line.rstrip() in ((mark, "...") if mark == "---" else (mark,)):
            try:
                front = _yaml("\n".join(lines)) if mark == "---" else tomllib.loads("\n".join(lines))
                front = json.loads(json.dumps(front, default=str)) if isinstance(front, dict) else {}
            except (ValueError, RecursionError, TypeError):
                return {}, whole
            return (front, body[length:].lstrip("\n")) if front else ({}, whole)
        lines.append(line)
    return {}, whole


def _yaml(given: str) -> Any:
    """YAML without aliases, which a few lines of can name more values than fit anywhere. Raises ValueError."""
    import yaml

    class Plain(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("aliases")
            return super().compose_node(parent, index)

    try:
        return yaml.load(given, Loader=Plain)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
