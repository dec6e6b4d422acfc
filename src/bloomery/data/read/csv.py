"""CSV and TSV files with a header: one document per row."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.data.documents import COLUMNS, Broken, Task, make
from bloomery.data.read import files
from bloomery.data.sources import Source, fingerprint_files
from bloomery.seams import Doc

fingerprint = fingerprint_files


def check(source: Source) -> None:
    """Refuse files that are empty, binary, in another encoding, without rows or without the text column."""
    for path, _ in source.files:
        files.check_records(path, files.head_of(path), source.options.encoding)
        with _rows(path, source.options.encoding) as handle:
            header = next(_reader(path, handle), [])
        for knob in COLUMNS:
            column = getattr(source.options, knob)
            if column and column not in header:
                raise BadInput(f"{path} has no column {column!r}; it has {', '.join(header)}; say `{knob}: NAME`")


def size(source: Source) -> int:
    """Bytes of the files."""
    return sum(os.path.getsize(path) for path, _ in source.files)


def tasks(source: Source, limit: int) -> Iterator[Task]:
    """One task per file: a quoted field may hold line ends, so a CSV file cannot be cut without reading it."""
    for path, name in source.files:
        yield Task("csv", source.address, (path, name), source.options, limit)


@contextmanager
def _rows(path: str, encoding: str) -> Iterator[io.TextIOWrapper]:
    """The file as text. BadInput where its bytes are cut or foreign in a way that no single row can be blamed for."""
    name = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
    try:
        with io.TextIOWrapper(files.open_bytes(path), encoding=name, errors="surrogateescape", newline="") as handle:
            yield handle
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not {encoding.upper()} to its end ({error.reason}); mend it, or say its `encoding:`") from None


def _reader(path: str, handle: io.TextIOWrapper) -> Any:
    csv.field_size_limit(sys.maxsize)  # long fields are judged by max_document, with a reason
    return csv.reader(handle, delimiter="\t" if ".tsv" in path.lower() else ",")


def read(task: Task) -> Iterator[Doc | Broken]:
    """Documents of one file; `file:line` (where the row ends) is the path of each."""
    path, name = task.where
    with _rows(path, task.options.encoding) as handle:
        reader = _reader(path, handle)
        header = next(reader, [])
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Broken("malformed", f"{name}:{reader.line_num}", 0, f"not CSV: {error}")
                continue
            if not row:
                continue
            place = f"{name}:{reader.line_num}"
            if len(row) != len(header):
                yield Broken("malformed", place, sum(map(len, row)), f"{len(row)} fields, the header has {len(header)}")
                continue
            record = dict(zip(header, row, strict=True))
            yield make(task, place, record[task.options.text], record)
