"""Text files: every file is one document; its folder is its package."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bloomery.core.errors import BadInput
from bloomery.data.documents import Broken, Task, Unread, make
from bloomery.data.read import files, places
from bloomery.data.sources import CHUNK, Source, fingerprint_files
from bloomery.seams import Doc

Made = Callable[[Task, bytes, str, str], Doc | Broken]  # of the bytes of a file, its name and its package
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


def check_heads(source: Source) -> None:
    """Refuse files of which nothing can be read; with `broken: drop`, only where that is all of them."""
    problems = []
    for path, _ in source.files:
        try:
            files.head_of(path)
        except BadInput as problem:
            problems.append(problem)
            if source.options.broken == "stop":
                raise
    if len(problems) == len(source.files):
        raise problems[0]


def size(source: Source) -> int:
    """Bytes of the files."""
    return sum(places.size_of(path) for path, _ in source.files)


def tasks(source: Source, limit: int) -> Iterator[Task]:
    """Runs of files of about one chunk, for the reader of the source."""
    run: list[tuple[str, str]] = []
    held = 0
    for path, name in source.files:
        run.append((path, name))
        held += places.size_of(path)
        if held >= CHUNK:
            yield Task(source.reader, source.address, tuple(run), source.options, limit)
            run, held = [], 0
    if run:
        yield Task(source.reader, source.address, tuple(run), source.options, limit)


def read(task: Task) -> Iterator[Doc | Broken]:
    """One document per file; its path is relative to the folder in which the glob starts."""
    for path, name in task.where:
        yield read_file(task, path, name, package_of(name))


def package_of(name: str) -> str:
    """The first folder of a file's name, or the file where it lies in none."""
    return name.split("/")[0]


def content(path: str, most: int) -> bytes:
    """All bytes of a file, unpacked; never more than `most` are held. Raises Unread."""
    try:
        length = places.size_of(path)
        if length > most:
            raise Unread("too long", f"{length} bytes, more than max_document allows")
        with files.open_bytes(path) as handle:
            data = handle.read(most + 1)
    except (OSError, BadInput) as error:
        raise Unread("unreadable", getattr(error, "strerror", None) or str(error)) from None
    if len(data) > most:
        raise Unread("too long", f"more than {most} bytes once unpacked, more than max_document allows")
    return data


def read_file(task: Task, path: str, name: str, package: str) -> Doc | Broken:
    """The text of one file, or why there is none: gone, too long, or not in the encoding of the source."""
    return opened(task, path, name, package, 4 * task.limit, decoded)  # longer in any encoding


def opened(
    task: Task, path: str, name: str, package: str, most: int, made: Callable[[Task, bytes, str, str], Doc | Broken]
) -> Doc | Broken:
    """What `made` says of the bytes of one file, at most `most` of them, or why they cannot be had."""
    try:
        data = content(path, most)
    except Unread as why:
        return Broken(why.reason, name, stored(path), why.note, package)
    return made(task, data, name, package)


def stored(path: str) -> int:
    """Bytes of a file as it lies there, 0 where it is gone."""
    try:
        return places.size_of(path)
    except (OSError, BadInput):
        return 0


def decoded(task: Task, data: bytes, name: str, package: str) -> Doc | Broken:
    """The text that bytes stand for in the encoding of the source, or why they stand for none."""
    try:
        return make(task, name, data.decode(task.options.encoding), {}, package)
    except UnicodeDecodeError as error:
        reason = "binary" if b"\0" in data else "other encoding"
        return Broken(reason, name, len(data), f"byte {error.start} is not {task.options.encoding.upper()}", package)
