"""Sources of documents: an address becomes fingerprinted, checked files, and these become tasks for workers.

An address is `python://`, `world://NAME`, `hf://name?split=train&text=text`, `git+PATH@REVISION`, a folder of sources, or a path, glob
or fsspec address of files of one of ENDINGS; a mapping `{from: ADDRESS, ...}` adds the options of `documents.Options`, or a world's own.
docs/sources.md has the table of all kinds.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from bloomery.core.errors import BadInput, near
from bloomery.data.documents import Broken, Options, Task
from bloomery.data.read import places
from bloomery.data.read.files import Bomb
from bloomery.data.sizes import parse_size
from bloomery.seams import Doc

CHUNK = 2_000_000  # bytes of stored text per task: fixed, so that the output does not depend on the number of workers
ENDINGS = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".arrow": "arrow", ".arrows": "arrow", ".feather": "arrow",
    ".ipc": "arrow", ".csv": "csv", ".tsv": "csv", ".md": "markdown", ".markdown": "markdown", ".html": "html", ".htm": "html",
    ".xhtml": "html", ".warc": "warc", ".pdf": "pdf", ".txt": "text",
}  # fmt: skip
READERS = ("jsonl", "parquet", "arrow", "csv", "text", "markdown", "html", "warc", "pdf", "tree")
WHOLE = ("parquet", "arrow")  # compressed within, never around


@dataclass(frozen=True)
class Source:
    """One source: `reader` is a module of bloomery.data.read, `files` are the files of a path or glob."""

    address: str
    reader: str
    options: Options
    files: tuple[tuple[str, str], ...] = ()  # (place to open, name in the corpus: relative to the folder the glob starts in)


def open_sources(sources: Sequence[str | Mapping[str, Any]]) -> list[Source]:
    """Parse the `sources:` of a recipe and find their files. Raises BadInput for an empty list, unknown options, missing files."""
    if not sources or isinstance(sources, str):
        raise BadInput("sources: give a list of addresses, for example [python://] or [data/*.jsonl]")
    return [source for given in sources for source in _open(given)]


def _open(given: str | Mapping[str, Any]) -> list[Source]:
    extra: dict[str, Any] = {}
    if isinstance(given, Mapping):
        extra = dict(given)
        given = extra.pop("from", None)
        if not isinstance(given, str):
            raise BadInput("sources: a mapping needs `from: ADDRESS`, for example {from: data/*.jsonl, text: content}")
    if not isinstance(given, str) or not given.strip():
        raise BadInput(f"sources: {given!r} is not an address; write a path, a glob, python:// or hf://name")
    if given.startswith("world://"):
        from bloomery.data.worlds import opening

        name, _, query = given.removeprefix("world://").partition("?")
        return [Source(opening.address(name, {**dict(parse_qsl(query)), **extra}), "world", Options())]
    if given.startswith("hf://") and "?" in given:
        address, query = given.split("?", 1)
        extra = {**dict(parse_qsl(query)), **extra}
    else:
        address = given
    options = _options(given, extra)
    if address.startswith("python://"):
        if address != "python://":
            raise BadInput(f"sources: {given!r}: python:// takes no path; its options are size, share and seed")
        return [Source(address, "python", options)]
    if address.startswith("hf://"):
        if not address[5:]:
            raise BadInput("sources: hf:// needs the name of a dataset, for example hf://name?split=train&text=text")
        return [Source(address, "hub", options)]
    if address.startswith("git+"):
        return [Source(address, "git", options)]
    return _files(address, options)


def _options(address: str, extra: Mapping[str, Any]) -> Options:
    """Options with their types; addresses such as hf:// give all of them as text."""
    known = {f.name: type(f.default) for f in fields(Options)}
    values: dict[str, Any] = {}
    for name, value in extra.items():
        if name not in known:
            raise BadInput(f"sources: {address}: unknown option {name!r}; {near(str(name), list(known))}")
        try:
            values[name] = known[name](value) if value is not None else known[name]()
            if isinstance(value, bool):
                raise ValueError
        except (TypeError, ValueError):
            raise BadInput(f"sources: {address}: {name} must be of type {known[name].__name__}, not {value!r}") from None
    options = Options(**values)
    if options.format and options.format not in READERS:
        raise BadInput(f"sources: {address}: format {options.format!r}; {near(options.format, list(READERS))}")
    if options.broken not in ("stop", "drop"):
        raise BadInput(f"sources: {address}: broken must be stop or drop, not {options.broken!r}")
    if options.size:
        parse_size(options.size, f"sources: {address}: size")
    parse_size(options.memory, f"sources: {address}: memory")
    if not options.seconds >= 1:
        raise BadInput(f"sources: {address}: seconds must be at least 1, not {options.seconds}")
    if not 0 < options.share <= 1:
        raise BadInput(f"sources: {address}: share must be above 0 and at most 1, not {options.share}")
    try:
        "".encode(options.encoding)
    except LookupError:
        raise BadInput(f"sources: {address}: unknown encoding {options.encoding!r}; write it like utf-8 or latin-1") from None
    return options


def _files(address: str, options: Options) -> list[Source]:
    """The files behind a path, glob, folder or fsspec address, one Source per kind of reader, names sorted."""
    if address.startswith("file://"):
        address = address.removeprefix("file://")
    if places.is_remote(address):
        named = places.find(address)
    elif options.format == "tree" or os.path.isdir(os.path.expanduser(address)):
        if options.format not in ("", "tree") or not os.path.isdir(os.path.expanduser(address)):
            folder = f"name the files, for example {address.rstrip('/')}/**/*.txt" if options.format != "tree" else "check the path"
            raise BadInput(f"sources: {address} is {'a' if options.format != 'tree' else 'no'} folder; {folder}")
        return [Source(address, "tree", options)]
    else:
        named = _found(address)
    groups: dict[str, list[tuple[str, str]]] = {}
    for path, name in named:
        groups.setdefault(options.format or reader_of(path), []).append((path, name))
    return [Source(address, reader, options, tuple(files)) for reader, files in groups.items()]


def _found(address: str) -> list[tuple[str, str]]:
    """The files of this machine behind a path or glob, each with its name below the folder in which the glob starts."""
    pattern = os.path.expanduser(address)
    if os.path.isfile(pattern):  # a file may have * or [ in its name
        found, root = [pattern], os.path.dirname(pattern)
    elif glob.has_magic(pattern):
        found = sorted(p for p in glob.glob(pattern, recursive=True) if os.path.isfile(p))
        parts = Path(pattern).parts
        fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
        root = str(Path(*parts[:fixed])) if fixed else ""
        if not found:
            raise BadInput(f"sources: {address} matches no file; check the pattern and the folder {root or '.'}")
    else:
        raise BadInput(f"sources: {address} does not exist; check the path")
    return [(path, Path(os.path.relpath(path, root or ".")).as_posix()) for path in found]


def reader_of(path: str) -> str:
    """The reader for a file, by its ending. Raises BadInput for endings that are known to be something else."""
    endings = [e.lower() for e in Path(places.file_name(path)).suffixes]
    packed = bool(endings) and endings[-1] in (".gz", ".zst")
    last = (endings[-2] if len(endings) > 1 else "") if packed else endings[-1] if endings else ""
    reader = ENDINGS.get(last)
    if last == ".json" or (packed and (reader is None or reader in WHOLE)):
        ending = "".join(Path(places.file_name(path)).suffixes)
        raise BadInput(f"sources: {path}: cannot tell how to read {ending}; make it .jsonl, or say `format: jsonl` or `format: text`")
    return reader or "text"


def check(sources: Sequence[Source]) -> None:
    """Look at every source before work. Raises BadInput for whole-file problems: empty, binary, other encoding, missing column."""
    for source in sources:
        _reader(source.reader).check(source)


def fingerprint(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """What identifies the content of each source, independent of the machine: counts and a SHA-256 over names and contents."""
    return [_reader(source.reader).fingerprint(source) for source in sources]


def size(sources: Sequence[Source]) -> int:
    """About how many bytes of documents the sources hold; cheap."""
    return sum(_reader(source.reader).size(source) for source in sources)


def tasks(sources: Sequence[Source], limit: int) -> Iterator[Task]:
    """The chunks of all sources in order; documents of more than `limit` bytes will be reported as too long."""
    for source in sources:
        yield from _reader(source.reader).tasks(source, limit)


def read(task: Task) -> Iterator[Doc | Broken]:
    """The documents of one chunk, in order, and the places where there should have been one.

    A file that unpacks to more than can be text ends there, with the reason `bomb`; so does, where the source says `broken: drop`, one
    that is damaged.
    """
    try:
        yield from _reader(task.reader).read(task)
    except Bomb as bomb:
        yield Broken("bomb", _place(task), 0, f"{bomb}; nothing after this place is read"[:200])
    except BadInput as problem:
        if task.options.broken != "drop":
            raise
        yield Broken("unreadable", _place(task), 0, f"{problem}; nothing after this place is read"[:200])


def _place(task: Task) -> str:
    """The file of a task that is about one file."""
    name = task.where[1] if len(task.where) > 1 else ""
    return f"{name}:-" if isinstance(name, str) else task.source


def _reader(name: str) -> Any:
    """The module that reads one kind of source; imported by name here, so that lineage sees what a corpus depends on."""
    from bloomery.data.read import arrow, csv, git, html, hub, jsonl, markdown, parquet, pdf, python, text, tree, warc, world

    known = {"arrow": arrow, "csv": csv, "git": git, "html": html, "hub": hub, "jsonl": jsonl, "markdown": markdown, "parquet": parquet}
    return {**known, "pdf": pdf, "python": python, "text": text, "tree": tree, "warc": warc, "world": world}[name]


def fingerprint_files(source: Source) -> dict[str, Any]:
    """Fingerprint of a source made of files: a SHA-256 over relative names and contents."""
    total, digest = 0, hashlib.sha256()
    for path, name in source.files:
        content, length = places.content(path)
        total += length
        digest.update(f"{name}\0{content}\n".encode("utf-8", "surrogateescape"))
    return {"address": source.address, "files": len(source.files), "bytes": total, "sha256": digest.hexdigest()}
