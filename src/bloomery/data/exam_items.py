"""Items of evaluation sets from files: rows with a question and an answer (JSON lines, JSON, Parquet, CSV), or whole texts."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.data.contamination import ExamItem

QUESTIONS = ("question", "problem", "prompt", "instruction", "context", "query", "input", "text", "goal", "sentence")
ANSWERS = (
    "canonical_solution", "solution", "code", "answer", "ending", "target", "output", "response", "completion", "reference", "answers",
)  # fmt: skip
ROWS = {".jsonl": "lines", ".ndjson": "lines", ".json": "json", ".parquet": "parquet", ".csv": "csv", ".tsv": "csv"}
TEXTS = (".txt", ".md")
CHOICES = ("choices", "options")


def files_of(folder: Path) -> list[Path]:
    """The files of a folder that hold items, hidden ones aside, in order of their names."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and kind_of(path) and not path.name.startswith("."))
    if not found:
        raise BadInput(f"--against: {folder} holds no file of items; name one of {', '.join([*ROWS, *TEXTS])} (also .gz, .zst)")
    return found


def kind_of(path: Path) -> str:
    """How a file is read; empty for what holds no items."""
    endings = [ending.lower() for ending in path.suffixes]
    last = endings[-2] if len(endings) > 1 and endings[-1] in (".gz", ".zst") else endings[-1] if endings else ""
    return ROWS.get(last, "text" if last in TEXTS else "")


def read_items(path: Path, question: str = "", answer: str = "", name: str = "") -> list[ExamItem]:
    """The items of a file. `question` and `answer` name the columns; empty: the first of the usual names that the first row has.

    BadInput for a file of another kind, one that cannot be read, and one without items or without such a column.
    """
    kind, name = kind_of(path), name or path.name
    if not kind:
        raise BadInput(f"--against: {path} is no file of items; name one of {', '.join([*ROWS, *TEXTS])} (also .gz, .zst), or a recipe")
    if kind == "text":
        found = [ExamItem(name, path.name, _bytes(path).decode("utf-8", "replace"))]
    else:
        rows = list(_rows(path, kind))
        asked, replied = _columns(path, rows, question, answer)
        found = [ExamItem(name, _name(row, number), _said(row.get(asked)), _answer(row, replied)) for number, row in enumerate(rows)]
    if not any(one.question or one.answer for one in found):
        raise BadInput(f"--against: {path} holds no items; check the file")
    return found


def _rows(path: Path, kind: str) -> Iterator[Mapping[str, Any]]:
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            yield from pq.read_table(path).to_pylist()
        except (pa.ArrowInvalid, OSError) as error:
            raise BadInput(f"--against: {path} is no Parquet file, or is damaged ({str(error).splitlines()[0][:120]})") from None
        return
    data = _bytes(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"--against: {path} is not UTF-8 (byte {error.start}); convert it") from None
    if kind == "csv":
        csv.field_size_limit(sys.maxsize)  # the whole file is in memory already
        yield from csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if ".tsv" in path.suffixes else ",")
        return
    lines = [(0, text)] if kind == "json" else [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    for number, line in lines:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"--against: {path}{f':{number}' if number else ''} is not JSON ({error}); mend it or take it out") from None
        for row in found if isinstance(found, list) and kind == "json" else [found]:
            if not isinstance(row, dict):
                raise BadInput(
                    f"--against: {path}{f':{number}' if number else ''} holds a {type(row).__name__}, not an object with columns"
                )
            yield row


def _bytes(path: Path) -> bytes:
    from bloomery.data.read.files import open_bytes

    try:
        with open_bytes(str(path)) as handle:
            return handle.read()
    except OSError as error:
        raise BadInput(f"--against: {path} cannot be read: {error.strerror or error}") from None


def _columns(path: Path, rows: list[Mapping[str, Any]], question: str, answer: str) -> tuple[str, str]:
    """The columns of question and answer; the latter is empty where there is none."""
    known = {name for row in rows for name in row if isinstance(name, str)}
    for given, option in ((question, "--question"), (answer, "--answer")):
        if given and given not in known:
            raise BadInput(f"{option}: {path} has no column {given!r}; it has {', '.join(sorted(known)) or 'none'}")
    replied = answer or next((name for name in ANSWERS if name in known), "")
    asked = question or next((name for name in QUESTIONS if name in known and name != replied), "")
    if not asked and not replied and rows:
        raise BadInput(f"--against: {path} has the columns {', '.join(sorted(known)) or 'none'}; say which by --question and --answer")
    return asked, replied


def _name(row: Mapping[str, Any], number: int) -> str:
    return str(next((row[key] for key in ("id", "task_id", "name") if row.get(key) not in (None, "")), number))


def _answer(row: Mapping[str, Any], column: str) -> str:
    """The answer's text: of a number among choices the choice."""
    said = row.get(column) if column else None
    choices = next((row[name] for name in CHOICES if isinstance(row.get(name), list)), [])
    if isinstance(said, int) and not isinstance(said, bool) and 0 <= said < len(choices):
        said = choices[said]
    elif isinstance(said, str) and len(said) == 1 and said.isupper() and ord(said) - ord("A") < len(choices):
        said = choices[ord(said) - ord("A")]
    return _said(said)


def _said(value: Any) -> str:
    """A value as text: texts of lists and mappings one after the other."""
    from bloomery.core.recipe import texts_in

    return value if isinstance(value, str) else "" if value is None else "\n".join(texts_in(value)) or str(value)
