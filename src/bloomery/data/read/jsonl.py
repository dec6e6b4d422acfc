"""JSON lines, plain or compressed: one object per line; a bad line is one broken document, never a lost batch."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.data.documents import COLUMNS, Broken, Options, Task, make
from bloomery.data.read import files, places
from bloomery.data.sources import CHUNK, Source, fingerprint_files
from bloomery.seams import Doc

fingerprint = fingerprint_files
MANY = 8_000_000  # values (about) of a line: as Python objects they take some fifty times their bytes
PACKED_GROWTH = 4  # about how much larger compressed text becomes
ESCAPED = 6  # bytes of \u0041 for one byte of text: no JSON string is longer


def size(source: Source) -> int:
    """About how many bytes of text there are, compressed files counted at a usual ratio."""
    return sum(places.size_of(path) * (PACKED_GROWTH if files.packing(path) else 1) for path, _ in source.files)


def check(source: Source) -> None:
    """Refuse files that are empty, binary, in another encoding, or whose first object has no text column."""
    options = source.options
    if "\n".encode(options.encoding).removeprefix(codecs.BOM_UTF8) != b"\n":
        raise BadInput(f"{source.address}: JSON lines cannot be {options.encoding}; convert the file to UTF-8")
    for path, _ in source.files:
        head = files.head_of(path)
        files.check_records(path, head, options.encoding)
        _check_columns(path, head, options)


def _check_columns(path: str, head: bytes, options: Options) -> None:
    """Look at the first line that is an object; when even the first of several lines is none, the file is no JSONL."""
    whole = head.removeprefix(codecs.BOM_UTF8).split(b"\n")
    for number, line in enumerate(whole):
        if number == len(whole) - 1 and len(head) == files.HEAD:
            return  # cut by the end of the head: judged while reading
        try:
            row = json.loads(line.decode(options.encoding))
        except ValueError:
            continue
        if isinstance(row, dict):
            for column in filter(None, (getattr(options, name) for name in COLUMNS)):
                if column not in row:
                    known = ", ".join(map(str, row)) or "none"
                    raise BadInput(f"{path} has no column {column!r}; it has {known}; say `{_knob(options, column)}: NAME`")
            return
    raise BadInput(f"{path} holds no JSON object in its first lines; give one object per line, or say `format: text`")


def _knob(options: Options, column: str) -> str:
    return next(name for name in COLUMNS if getattr(options, name) == column)


def tasks(source: Source, limit: int) -> Iterator[Task]:
    """Plain files are cut at line ends into chunks with their first line number; a compressed file, or a server's stream, is one task."""
    for path, name in source.files:
        if files.packing(path):
            yield Task("jsonl", source.address, (path, name, 0, -1, 1), source.options, limit)
            continue
        with places.open_plain(path) as handle:
            start, number, total = 0, 1, places.size_of(path)
            if not handle.seekable() or not total:
                yield Task("jsonl", source.address, (path, name, 0, -1, 1), source.options, limit)
                continue
            while start < total:
                handle.seek(start)
                stop, breaks = _line_end(handle, start)
                yield Task("jsonl", source.address, (path, name, start, stop, number), source.options, limit)
                start, number = stop, number + breaks


def _line_end(handle: Any, start: int) -> tuple[int, int]:
    """End of the first line that ends CHUNK bytes or more after `start`, and how many line ends lie before it."""
    block = handle.read(CHUNK)
    stop, breaks = start + len(block), block.count(b"\n")
    while block and not block.endswith(b"\n"):
        block = handle.read(1 << 16)
        cut = block.find(b"\n") + 1
        stop += cut or len(block)
        breaks += bool(cut)
        if cut:
            break
    return stop, breaks


def read(task: Task) -> Iterator[Doc | Broken]:
    """Documents of lines between two offsets; `file:line` is the path of each."""
    path, name, start, stop, number = task.where
    at = start
    with files.open_bytes(path) as handle:
        if start:
            handle.seek(start)
        for line, length in files.lines(handle, ESCAPED * task.limit + (1 << 16)):
            place = f"{name}:{number}"
            if at == 0:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line.strip():
                yield _document(task, place, line, length)
            at, number = at + length, number + 1
            if 0 <= stop <= at:
                return


def _document(task: Task, place: str, line: bytes, length: int) -> Doc | Broken:
    if length > len(line) + 8:
        return Broken("too long", place, length, f"a line of {length} bytes, more than max_document allows")
    if length > MANY and sum(line.count(mark) for mark in b",[{") > MANY:
        return Broken("malformed", place, length, f"more than {MANY} values")
    try:
        row = json.loads(line.decode(task.options.encoding))
    except UnicodeDecodeError as error:
        return Broken("malformed", place, length, f"byte {error.start} is not {task.options.encoding.upper()}")
    except (ValueError, RecursionError) as error:
        return Broken("malformed", place, length, f"not JSON: {error}")
    if not isinstance(row, dict):
        return Broken("malformed", place, length, f"a JSON {type(row).__name__}, not an object")
    if task.options.text not in row:
        return Broken("malformed", place, length, f"no column {task.options.text!r}")
    found = make(task, place, row[task.options.text], row)
    return Broken(found.reason, place, length, found.note) if isinstance(found, Broken) else found
