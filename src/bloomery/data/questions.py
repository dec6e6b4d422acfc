"""Local questions, as tasks ask them: JSON objects on the lines of a .jsonl file or in the list of a .json file, alone or in a folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bloomery.core.errors import BadInput, near
from bloomery.seams import Source

Row = Mapping[str, Any]


def read_questions(path: Path) -> dict[str, list[Row]]:
    """The rows of a file, or of each one in a folder, by the file's name without its ending. BadInput for what is no JSON object.

    A .json file of a folder that holds no list, such as a card or a configuration, is passed over.
    """
    files = [path] if path.is_file() else sorted(one for one in path.glob("*.json*") if one.suffix in (".json", ".jsonl"))
    found: dict[str, list[Row]] = {}
    for file in files:
        rows = _list(file) if file.suffix == ".json" else list(_lines(file))
        if rows is None and path.is_file():
            raise BadInput(f"questions: {path} holds no list; write a list of JSON objects, or an object on each line of a .jsonl file")
        if rows is not None and file.stem in found:
            raise BadInput(f"questions: {path} holds {file.stem}.json and {file.stem}.jsonl; give one of them another name")
        if rows is not None:
            found[file.stem] = rows
    if not found:
        raise BadInput(f"questions: {path} holds no .jsonl file, nor a .json file with a list; name one, or a folder of them")
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"questions: {file} is not UTF-8 (byte {error.start}); convert it") from None


def _lines(file: Path) -> Iterator[Row]:
    for number, line in enumerate(_text(file).split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise BadInput(f"questions: {file}:{number} is not JSON ({error.msg}); mend the line or take it out") from None
            if not isinstance(row, dict):
                raise BadInput(f"questions: {file}:{number} is no JSON object; write one on each line")
            yield row


def _list(file: Path) -> list[Row] | None:
    try:
        rows = json.loads(_text(file))
    except json.JSONDecodeError as error:
        raise BadInput(f"questions: {file}:{error.lineno} is not JSON ({error.msg}); mend the file or take it out") from None
    if not isinstance(rows, list):
        return None
    if (odd := next((i for i, row in enumerate(rows) if not isinstance(row, dict)), None)) is not None:
        raise BadInput(f"questions: entry {odd + 1} of {file} is no JSON object; mend it or take it out")
    return rows


def asked(source: Source, file: str, fields: Sequence[str], count: int) -> Iterator[tuple[str, Row]]:
    """Id and row of the first `count` questions (0: all) of a file that have all `fields`; the only file where none is named.

    Without a name, and with several files, the rows of those whose first row has the fields. An id is the file's name and the row's
    `task_id` or `id`, else its number. BadInput for a file that is not there, and for a row of a named file that lacks a field.
    """
    if file and source.questions and file not in source.questions:
        raise BadInput(f"questions: there is no file {file}.jsonl; {near(file, list(source.questions))}")
    chosen = {name: rows for name, rows in source.questions.items() if name == file or (not file and rows and not _lacks(rows[0], fields))}
    left = count or -1
    for name, rows in chosen.items():
        for number, row in enumerate(rows):
            if lacks := _lacks(row, fields):
                raise BadInput(f"questions: row {number + 1} of {name}.jsonl has no {lacks!r}; add it, or name another field in the task")
            if left:
                left -= 1
                known = next((row[key] for key in ("task_id", "id") if row.get(key) is not None), number)
                yield f"{name}:{known}", row


def _lacks(row: Row, fields: Sequence[str]) -> str:
    return next((name for name in fields if name not in row), "")


def fields_of(form: str) -> list[str]:
    """The names in braces of a form."""
    return re.findall(r"\{(\w+)\}", form)


def filled(form: str, row: Row) -> str:
    """The form with the row's field in the place of each name in braces; other braces are left as they are."""
    return re.sub(r"\{(\w+)\}", lambda found: str(row[found[1]]) if found[1] in row else found[0], form)


def group_of(row: Row, key: str) -> str:
    """Rows with the same `group` are not independent; without one each stands alone."""
    return key if row.get("group") is None else str(row["group"])
