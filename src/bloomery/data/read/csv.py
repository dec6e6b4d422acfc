"""CSV and TSV files with a header: one document per row."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from bloomery.core.errors import BadInput
from bloomery.data.documents import COLUMNS, Broken, Task, make
from bloomery.data.read import files, places
from bloomery.data.sources import Source, fingerprint_files
from bloomery.seams import Doc

fingerprint = fingerprint_files
HEADER = 1 << 16  # characters of the first line, and of what a row holds besides its text
DOUBLED = 2  # characters for one of text: a quote within quotes is written twice
PIECE = 1 << 20


def check(source: Source) -> None:
    """Refuse files that are empty, binary, in another encoding, without rows or without the text column."""
    for path, _ in source.files:
        files.check_records(path, files.head_of(path), source.options.encoding)
        with _rows(path, source.options.encoding) as handle:
            header = _header(path, Lines(handle, HEADER))
        for knob in COLUMNS:
            column = getattr(source.options, knob)
            if column and column not in header:
                raise BadInput(f"{path} has no column {column!r}; it has {', '.join(header)}; say `{knob}: NAME`")
            if header.count(column) > 1:
                raise BadInput(f"{path} has {header.count(column)} columns {column!r}; give each a name of its own")


def size(source: Source) -> int:
    """Bytes of the files."""
    return sum(places.size_of(path) for path, _ in source.files)


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


class Overlong(Exception):
    """A row of more characters than may be held; `length` is how many it had."""

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length


class Lines:
    """The lines of a file for `csv.reader`, which holds a row until its quotes are closed.

    Of a row of more than `most` characters nothing is kept: the rest of it is read past, in pieces, to the first line end at which its
    quotes are closed, and Overlong is raised; the next line begins a new row.
    """

    def __init__(self, handle: TextIO, most: int) -> None:
        self.handle, self.most, self.number, self.held, self.quotes = handle, most, 0, 0, 0

    def begin(self) -> None:
        """A new row."""
        self.held = self.quotes = 0

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        line = self.handle.readline(self.most + 1)
        if not line:
            raise StopIteration
        self._count(line)
        if self.held > self.most:
            while line and not (line.endswith("\n") and self.quotes % 2 == 0):
                line = self.handle.readline(PIECE)
                self._count(line)
            raise Overlong(self.held)
        return line

    def _count(self, piece: str) -> None:
        self.held += len(piece)
        self.quotes += piece.count('"')
        self.number += piece.endswith("\n")


def _reader(path: str, lines: Lines) -> Any:
    csv.field_size_limit(sys.maxsize)  # Lines bounds a row, max_document its text
    return csv.reader(lines, delimiter="\t" if ".tsv" in places.file_name(path).lower() else ",")


def _header(path: str, lines: Lines) -> list[str]:
    try:
        return next(_reader(path, lines), [])
    except (csv.Error, Overlong) as error:
        raise BadInput(f"{path}: its first line is no CSV header ({type(error).__name__} {error}); check the file") from None


def read(task: Task) -> Iterator[Doc | Broken]:
    """Documents of one file; `file:line` (where the row ends) is the path of each."""
    path, name = task.where
    with _rows(path, task.options.encoding) as handle:
        lines = Lines(handle, DOUBLED * task.limit + HEADER)
        header = _header(path, lines)
        reader = _reader(path, lines)
        while True:
            lines.begin()
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Broken("malformed", f"{name}:{lines.number}", 0, f"not CSV: {error}")
                continue
            except Overlong as row:
                yield Broken("too long", f"{name}:{lines.number}", row.length, f"a row of {row.length} characters, or a quote not closed")
                continue
            if not row:
                continue
            place = f"{name}:{lines.number}"
            if len(row) != len(header):
                yield Broken("malformed", place, sum(map(len, row)), f"{len(row)} fields, the header has {len(header)}")
                continue
            record = dict(zip(header, row, strict=True))
            yield make(task, place, record[task.options.text], record)
