"""`git+PATH@REVISION`: the files of a local repository, bare or not, as they are in one commit, read without a checkout.

Git's plumbing reads the objects; nothing of the repository is run, no filter or hook, and nothing is fetched.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.data.documents import Broken, Task
from bloomery.data.read import kinds
from bloomery.data.read.tree import LICENCE, package, source_file
from bloomery.data.sources import CHUNK, Source
from bloomery.seams import Doc

PREFIX = "git+"
MOST = 20_000_000  # files of a commit
SAFE = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "protocol.allow=never")
ALONE = {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_NO_REPLACE_OBJECTS": "1", "LC_ALL": "C"}
KINDS = {"120000": "link", "160000": "submodule"}


def parted(address: str, revision: str) -> tuple[str, str]:
    """The repository's path and the revision of an address; an @ that is part of an existing path is none."""
    path = os.path.expanduser(address.removeprefix(PREFIX).removeprefix("file://"))
    if not os.path.exists(path) and "@" in path:
        path, _, said = path.rpartition("@")
        revision = revision or said
    return path, revision or "HEAD"


def _git(path: str, *arguments: str) -> list[str]:
    return ["git", *SAFE, "-C", path, *arguments]


def _environment() -> dict[str, str]:
    return {**{name: value for name, value in os.environ.items() if not name.startswith("GIT_")}, **ALONE}


def _asked(path: str, address: str, *arguments: str) -> str:
    """The output of a git command. Raises BadInput."""
    if not os.path.isdir(path):
        raise BadInput(f"sources: {address}: {path} is no folder; give the path of a local repository, or clone it first")
    try:
        done = subprocess.run(_git(path, *arguments), capture_output=True, env=_environment(), timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadInput(f"sources: {address}: git cannot be run ({error}); install it") from None
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"]
        raise BadInput(f"sources: {address}: git says: {lines[0][:200]}; check path and revision")
    return done.stdout.decode("utf-8", "replace").strip()


@lru_cache(maxsize=64)
def _commit(path: str, revision: str, address: str) -> tuple[str, str]:
    """The ids of the commit and of its tree, asked for once a run, so that what is read is what the fingerprint names."""
    commit = _asked(path, address, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    return commit, _asked(path, address, "rev-parse", "--verify", "--end-of-options", f"{commit}^{{tree}}")


def _of(source: Source) -> tuple[str, str, str]:
    path, revision = parted(source.address, source.options.revision)
    try:
        return path, *_commit(path, revision, source.address)
    except BadInput as wrong:
        if "no message" in str(wrong):
            raise BadInput(f"sources: {source.address}: the repository has no revision {revision!r}; check it") from None
        raise


def listed(source: Source) -> Iterator[tuple[str, str, int, str]]:
    """(mode, object id, bytes, name) of the commit's files that are asked for, in git's order."""
    path, commit, _ = _of(source)
    include, exclude = kinds.patterns(source.options.include), kinds.patterns(source.options.exclude)
    arguments = _git(path, "ls-tree", "-r", "-z", "-l", "--full-tree", commit)
    with _running(arguments, source.address) as process:
        for count, entry in enumerate(_records(process.stdout)):
            if count >= MOST:
                raise BadInput(f"sources: {source.address} has more than {MOST} files; choose a smaller tree")
            about, _, name = entry.partition(b"\t")
            mode, _, oid, length = about.decode("ascii").split()
            shown = name.decode("utf-8", "replace")
            if kinds.chosen(shown, include, exclude) and not kinds.ignored(shown):
                yield mode, oid, 0 if length == "-" else int(length), shown


def _records(stream: Any) -> Iterator[bytes]:
    """What NULs end."""
    held = b""
    while block := stream.read(1 << 20):
        *whole, held = (held + block).split(b"\0")
        yield from whole


@contextmanager
def _running(arguments: list[str], address: str) -> Iterator[subprocess.Popen]:
    """A git command as it runs. Raises BadInput where it fails, unless it was left early."""
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment())
    try:
        yield process
        process.stdin.close()
        if process.wait():
            raise BadInput(f"sources: {address}: git cannot read the repository to its end; run `git fsck` there")
    finally:
        process.kill()
        for end in (process.stdin, process.stdout):
            end.close()
        process.wait()


def check(source: Source) -> None:
    """Refuse what is no repository, has no such revision, or holds no text there. A revision may name another commit since the last run."""
    _commit.cache_clear()
    if not any(mode not in KINDS and not kinds.unwanted(name) for mode, _, _, name in listed(source)):
        raise BadInput(f"sources: {source.address} holds no text file; check revision and patterns")


def size(source: Source) -> int:
    """Bytes of the files that are not left out for their names."""
    return sum(length for _, _, length, name in listed(source) if not kinds.unwanted(name))


def fingerprint(source: Source) -> dict[str, Any]:
    """The ids of the commit and its tree, which are hashes of all that is read; and which files are asked for."""
    _, commit, tree = _of(source)
    return {"address": source.address, "commit": commit, "tree": tree, "include": source.options.include, "exclude": source.options.exclude}


def tasks(source: Source, limit: int) -> Iterator[Task]:
    """Runs of files of about one chunk; where: the repository, its name, the commit, and (id, bytes, name, licence, reason) of each."""
    path, commit, _ = _of(source)
    entries = list(listed(source))
    known = _licences(path, source.address, entries)
    called = Path(path).resolve().name
    called = (Path(path).resolve().parent.name if called == ".git" else called).removesuffix(".git")
    run: list[tuple[str, int, str, str, str]] = []
    held = 0
    for mode, oid, length, name in entries:
        why = KINDS.get(mode) or kinds.unwanted(name) or ("too long" if length > 4 * limit else "")
        run.append((oid, length, name, kinds.licence_for(name, "", known), why))
        held += 0 if why else length
        if held >= CHUNK or len(run) >= CHUNK // 100:
            yield Task("git", source.address, (path, called, commit, tuple(run)), source.options, limit)
            run, held = [], 0
    if run:
        yield Task("git", source.address, (path, called, commit, tuple(run)), source.options, limit)


def _licences(path: str, address: str, entries: list[tuple[str, str, int, str]]) -> dict[str, str]:
    """The licence of each folder that holds one."""
    stated = [(oid, name) for mode, oid, length, name in entries if mode not in KINDS and length <= LICENCE and kinds.is_licence(name)]
    found: dict[str, str] = {}
    for (_, name), data in zip(stated, _blobs(path, address, [oid for oid, _ in stated]), strict=True):
        found.setdefault(name.rpartition("/")[0], kinds.licence_named(data.decode("utf-8", "replace")))
    return found


def _blobs(path: str, address: str, oids: list[str]) -> Iterator[bytes]:
    """The contents of objects, one at a time, in order."""
    if not oids:
        return
    with _running(_git(path, "cat-file", "--batch"), address) as process:
        for oid in oids:
            process.stdin.write(f"{oid}\n".encode("ascii"))
            process.stdin.flush()
            yield _blob(process, oid, address)


def _blob(process: subprocess.Popen, oid: str, address: str) -> bytes:
    head = process.stdout.readline(200).split()
    if len(head) != 3 or head[1] != b"blob":
        raise BadInput(f"sources: {address}: object {oid} is missing; run `git fsck` there, or fetch it")
    data = process.stdout.read(int(head[2]))
    process.stdout.read(1)
    return data


def read(task: Task) -> Iterator[Doc | Broken]:
    """One document per file; its package is the repository's name with the first folder, its domain its language."""
    path, called, commit, entries = task.where
    blobs = _blobs(path, task.source, [oid for oid, _, _, _, why in entries if not why])
    for _, length, name, licence, why in entries:
        if why:
            yield Broken(why, name, length, "", package(called, name), licence)
            continue
        found = source_file(task, next(blobs), name, called, licence)
        if isinstance(found, Doc):
            found.meta["revision"] = commit
        yield found
