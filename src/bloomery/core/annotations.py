"""Annotations: what one piece of work made of a whole source, such as a signal's numbers for every document, found again by every
step that asks for the same, whatever its other knobs, its recipe or its process.

store/annotations/<name>-<16 digits>/      its files; `card.json`, which hashes them, is written last and says that it is whole
store/annotations/<name>-<16 digits>.lock  held by the process that makes it, shared by those that read it; `gc` leaves held ones
"""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from bloomery.core import lineage
from bloomery.core.files import sha256_file, write_json
from bloomery.core.machine import threads
from bloomery.core.store import ANNOTATED, CARD, Store


@dataclass
class Annotation:
    """One of them: `covers` is all that its address hashes. It is whole once it has a card; until then its folder holds what an
    earlier, killed run has left."""

    name: str  # what was made: texts, keys, or the signal
    covers: Mapping[str, Any]
    folder: Path
    card: dict[str, Any] | None = field(default=None, repr=False)
    lock: IO[str] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        return lineage.address({"annotation": self.name, **self.covers})

    @property
    def facts(self) -> dict[str, Any]:
        return self.card["facts"] if self.card else {}

    def finish(self, files: Sequence[str], facts: Mapping[str, Any]) -> None:
        """Make it whole: `files` of its folder are hashed and stay, every other one is removed."""
        hashed = {}
        for name in files:
            hashed[name] = [(self.folder / name).stat().st_size, sha256_file(self.folder / name)]
        made = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        about = {"format": 1, "address": self.address, "name": self.name, "made": made, "covers": self.covers}
        self.card = json.loads(json.dumps({**about, "facts": facts, "files": hashed}, default=str))
        write_json(self.folder / CARD, self.card)  # files that a crash of the machine has torn are found by their hashes
        for path in self.folder.iterdir():
            if path.name != CARD and path.name not in hashed:
                path.unlink(missing_ok=True)
        if self.lock:
            fcntl.flock(self.lock, fcntl.LOCK_SH)


def wanted(store: Store, name: str, covers: Mapping[str, Any]) -> Annotation:
    """The annotation of a name and of all that can change it; nothing is looked up yet."""
    address = lineage.address({"annotation": name, **covers})
    return Annotation(name, covers, store.annotations / f"{name}-{address[:16]}")


@contextmanager
def held(store: Store, work: Path, annotations: Sequence[Annotation], say: Callable[[str], None]) -> Iterator[None]:
    """Lock annotations for a step that works in `work`, and look up which are whole; a damaged one is discarded.

    One that another process is making is waited for. Locks are taken in one order everywhere, so that no two processes wait for
    each other; whatever is finished inside is open to readers at once.
    """
    by_folder = {one.folder: one for one in annotations}
    write_json(work / ANNOTATED, sorted(folder.name for folder in by_folder))
    with ExitStack() as locks:
        for folder in sorted(by_folder):
            locks.enter_context(_locked(by_folder[folder], say))
        yield


@contextmanager
def _locked(one: Annotation, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of an annotation: shared where it is whole and sound, else alone."""
    path = one.folder.with_name(f"{one.folder.name}.lock")
    while True:
        with open(path, "a+", encoding="utf-8") as lock:
            _take(lock, fcntl.LOCK_SH, one, say)
            one.card = _card(one)
            if one.card is None or _damage(one):
                _take(lock, fcntl.LOCK_EX, one, say)
                one.card = _card(one)
                _discard_damaged(one, say)
            if not _same(lock, path):
                continue  # gc removed it meanwhile, and others hold a new one
            if one.card is None:
                one.folder.mkdir(exist_ok=True)
                lock.truncate(0)
                lock.write(f"process {os.getpid()}")
                lock.flush()
            else:
                fcntl.flock(lock, fcntl.LOCK_SH)
            one.lock = lock
            try:
                yield
            finally:
                one.lock = None
            return


def _take(lock: IO[str], kind: int, one: Annotation, say: Callable[[str], None]) -> None:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        say(f"waiting for {one.folder.name}, which {lock.read().strip() or 'another process'} uses")
        fcntl.flock(lock, kind)


def _same(lock: IO[str], path: Path) -> bool:
    try:
        return os.fstat(lock.fileno()).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _card(one: Annotation) -> dict[str, Any] | None:
    """The card of a whole annotation; None for one that is unfinished, or whose card cannot be read."""
    try:
        card = json.loads((one.folder / CARD).read_text(encoding="utf-8"))
        return card if card["address"] == one.address and isinstance(card["files"], dict) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _damage(one: Annotation) -> list[str]:
    """The files of a whole annotation that are not what its card says."""
    files = one.card["files"] if one.card else {}

    def sound(name: str) -> bool:
        path, (size, digest) = one.folder / name, files[name]
        return path.is_file() and path.stat().st_size == size and sha256_file(path) == digest

    with ThreadPoolExecutor(threads()) as pool:
        return [name for name, good in zip(files, pool.map(sound, files), strict=True) if not good]


def _discard_damaged(one: Annotation, say: Callable[[str], None]) -> None:
    """Make a damaged annotation an unfinished one; nothing where it is sound by now."""
    if damaged := _damage(one):
        say(f"{one.folder.name} is damaged: {damaged[0]} is not what its card says; it is made again")
        shutil.rmtree(one.folder)
        one.card = None
