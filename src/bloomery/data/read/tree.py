"""A folder of source files: every text file that somebody wrote, with its language and licence; the rest is named with its reason.

Folders of version control, installed packages and caches are not looked into, links are not followed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.data.documents import Broken, Task, Unread, make
from bloomery.data.read import kinds, places, text
from bloomery.data.sources import CHUNK, Source
from bloomery.seams import Doc

LICENCE = 100_000  # bytes of a licence's text that are looked at


def _root(source: Source) -> Path:
    return Path(os.path.expanduser(source.address.removeprefix("file://")))


def walked(source: Source) -> Iterator[tuple[str, str]]:
    """(path, relative name) of every file that is asked for, sorted by name within each folder."""
    root = _root(source)
    include, exclude = kinds.patterns(source.options.include), kinds.patterns(source.options.exclude)
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if name not in kinds.IGNORED)
        for name in sorted(names):
            path = os.path.join(folder, name)
            relative = Path(os.path.relpath(path, root)).as_posix()
            if kinds.chosen(relative, include, exclude):
                yield path, relative


def check(source: Source) -> None:
    """Refuse a folder in which no file is text."""
    left: set[str] = set()
    for path, name in walked(source):
        why = "a link" if os.path.islink(path) else kinds.unwanted(name)
        if not why:
            return
        left.add(why)
    mend = f"name them, for example {source.address.rstrip('/')}/**/*.jsonl" if "data file" in left else "check path and patterns"
    found = f"only files left out as {', '.join(sorted(left))}" if left else "no file"
    raise BadInput(f"sources: the folder {source.address} holds {found}; {mend}")


def size(source: Source) -> int:
    """Bytes of the files that are not left out for their names."""
    return sum(text.stored(path) for path, name in walked(source) if not kinds.unwanted(name) and not os.path.islink(path))


def fingerprint(source: Source) -> dict[str, Any]:
    """A SHA-256 over names and contents."""
    total = count = 0
    digest = hashlib.sha256()
    for path, name in walked(source):
        if os.path.islink(path) or not os.path.isfile(path):
            digest.update(f"{name}\0link\n".encode("utf-8", "surrogateescape"))
            continue
        content, length = places.content(path)
        digest.update(f"{name}\0{content}\n".encode("utf-8", "surrogateescape"))
        total, count = total + length, count + 1
    return {"address": source.address, "files": count, "bytes": total, "sha256": digest.hexdigest()}


def licences(source: Source) -> dict[str, str]:
    """The licence of each folder that holds one."""
    found: dict[str, str] = {}
    for path, name in walked(source):
        if kinds.is_licence(name) and not os.path.islink(path):
            with open(path, "rb") as handle:
                found.setdefault(name.rpartition("/")[0], kinds.licence_named(handle.read(LICENCE).decode("utf-8", "replace")))
    return found


def tasks(source: Source, limit: int) -> Iterator[Task]:
    """Runs of files of about one chunk, each with the licence of its folder."""
    known, called = licences(source), _root(source).resolve().name
    run: list[tuple[str, str, str, str]] = []
    held = 0
    for path, name in walked(source):
        run.append((path, name, called, kinds.licence_for(name, "", known)))
        held += 0 if kinds.unwanted(name) else text.stored(path)
        if held >= CHUNK or len(run) >= CHUNK // 100:
            yield Task("tree", source.address, tuple(run), source.options, limit)
            run, held = [], 0
    if run:
        yield Task("tree", source.address, tuple(run), source.options, limit)


def read(task: Task) -> Iterator[Doc | Broken]:
    """One document per file; its package is the tree's name with the first folder, its domain its language."""
    for path, name, called, licence in task.where:
        length = text.stored(path)
        try:
            why = "link" if os.path.islink(path) else kinds.unwanted(name)
            if why:
                raise Unread(why)
            if not os.path.isfile(path):
                raise Unread("unreadable", "no ordinary file")
            data = text.content(path, 4 * task.limit)
        except Unread as why:
            yield Broken(why.reason, name, length, why.note, package(called, name), licence)
            continue
        yield source_file(task, data, name, called, licence)


def package(called: str, name: str) -> str:
    """The tree's name, and the first folder of a file that lies in one."""
    return f"{called}/{name.split('/')[0]}" if "/" in name else called


def source_file(task: Task, data: bytes, name: str, called: str, licence: str) -> Doc | Broken:
    """The bytes of a file of a tree as a document, or why they are none."""
    options = task.options
    wide = options.encoding.lower().startswith(("utf-16", "utf-32"))
    try:
        if b"\0" in data[: kinds.HEAD] and not wide:
            raise Unread("binary", f"a NUL byte at byte {data.index(0)}")
        if data.startswith(b"version https://git-lfs.github.com/spec/"):
            raise Unread("LFS pointer", "the content is elsewhere; fetch it with git lfs")
        whole = data.decode("utf-8-sig" if options.encoding.lower() in ("utf-8", "utf8") else options.encoding)
    except UnicodeDecodeError as error:
        reason = Unread("other encoding", f"byte {error.start} is not {options.encoding.upper()}")
        return Broken(reason.reason, name, len(data), reason.note, package(called, name), licence)
    except Unread as why:
        return Broken(why.reason, name, len(data), why.note, package(called, name), licence)
    found = make(task, name, whole, {}, package(called, name))
    if isinstance(found, Doc):
        meta = found.meta
        meta["domain"] = meta["domain"] or kinds.language(name)
        meta["licence"] = meta["licence"] or kinds.licence_for(name, whole[: kinds.HEAD], {"": licence} if licence else {})
    return found
