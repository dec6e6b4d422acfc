"""`world://NAME`: documents made on the spot by one of data/worlds, the same everywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.data.documents import Broken, Task, make
from bloomery.data.sources import Source
from bloomery.data.worlds import opening
from bloomery.seams import Doc

EACH = 2000  # documents of a task


@lru_cache(maxsize=8)
def _looked(address: str) -> tuple[int, str]:
    """Bytes of all documents, and a SHA-256 over their ids, kinds, packages and texts."""
    world, total, digest = opening.parse(address), 0, hashlib.sha256()
    for i in range(world.documents):
        doc = opening.identified(_name(address), world, i)
        data = doc.text.encode()
        digest.update(f"{doc.id}\0{doc.meta['domain']}\0{doc.meta['package']}\0{len(data)}\n".encode() + data)
        total += len(data)
    return total, digest.hexdigest()


def _name(address: str) -> str:
    return address.removeprefix(opening.PREFIX).partition("?")[0]


def check(source: Source) -> None:
    """Refuse a world without documents."""
    if not opening.parse(source.address).documents:
        raise BadInput(f"sources: {source.address} has no documents; ask for some")


def size(source: Source) -> int:
    """Bytes of all documents."""
    return _looked(source.address)[0]


def fingerprint(source: Source) -> dict[str, Any]:
    """A SHA-256 over all documents."""
    total, digest = _looked(source.address)
    return {"address": source.address, "files": 0, "bytes": total, "sha256": digest}


def tasks(source: Source, limit: int) -> Iterator[Task]:
    """Runs of documents."""
    count = opening.parse(source.address).documents
    for start in range(0, count, EACH):
        yield Task("world", source.address, (start, min(start + EACH, count)), source.options, limit)


def read(task: Task) -> Iterator[Doc | Broken]:
    """The documents of one run; the number of a document is its path."""
    world, name = opening.parse(task.source), _name(task.source)
    for i in range(*task.where):
        doc = opening.identified(name, world, i)
        found = make(task, f"{name}/{i}", doc.text, {}, doc.meta["package"])
        if isinstance(found, Doc):
            found.id = doc.id
            found.meta["domain"] = doc.meta["domain"]
        yield found
