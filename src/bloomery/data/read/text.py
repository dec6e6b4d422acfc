"""Text files: every file is one document; its folder is its package."""

from __future__ import annotations

import os
from collections.abc import Iterator

from bloomery.core.errors import BadInput
from bloomery.data.documents import Broken, Task, make
from bloomery.data.read import files
from bloomery.data.sources import CHUNK, Source, fingerprint_files
from bloomery.seams import Doc

fingerprint = fingerprint_files


def check(source: Source) -> None:
    """Refuse empty, binary or undecodable files, unless the source says `broken: drop` and the heads of others are sound."""
    problems, stop = [], source.options.broken == "stop"
    for path, _ in source.files:
        try:
            if stop:
                files.check_whole_text(path, source.options.encoding)
            else:
                files.check_text(path, files.head_of(path), source.options.encoding)
        except BadInput as problem:
            problems.append(problem)
            if stop:
                more = "" if len(source.files) == 1 else "; or say `broken: drop` to leave out such files"
                raise BadInput(f"{problem}{more}") from None
    if len(problems) == len(source.files):
        raise problems[0]


def size(source: Source) -> int:
    """Bytes of the files."""
    return sum(os.path.getsize(path) for path, _ in source.files)


def tasks(source: Source, limit: int) -> Iterator[Task]:
    """Runs of files of about one chunk."""
    run: list[tuple[str, str]] = []
    held = 0
    for path, name in source.files:
        run.append((path, name))
        held += os.path.getsize(path)
        if held >= CHUNK:
            yield Task("text", source.address, tuple(run), source.options, limit)
            run, held = [], 0
    if run:
        yield Task("text", source.address, tuple(run), source.options, limit)


def read(task: Task) -> Iterator[Doc | Broken]:
    """One document per file; its path is relative to the folder in which the glob starts."""
    for path, name in task.where:
        yield read_file(task, path, name, name.split("/")[0] if "/" in name else name)


def read_file(task: Task, path: str, name: str, package: str) -> Doc | Broken:
    """The text of one file, or why there is none: gone, too long, or not in the encoding of the source."""
    try:
        length = os.path.getsize(path)
        if length > 4 * task.limit:  # longer in any encoding
            return Broken("too long", name, length, f"{length} bytes, more than max_document allows", package)
        with files.open_bytes(path) as handle:
            data = handle.read()
        text = data.decode(task.options.encoding)
    except UnicodeDecodeError as error:
        reason = "binary" if b"\0" in data else "other encoding"
        return Broken(reason, name, len(data), f"byte {error.start} is not {task.options.encoding.upper()}", package)
    except (OSError, BadInput) as error:
        return Broken("unreadable", name, 0, getattr(error, "strerror", None) or str(error), package)
    return make(task, name, text, {}, package)
