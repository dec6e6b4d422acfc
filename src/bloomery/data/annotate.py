"""The work of one chunk, done by any worker: its texts, where they are still to be made, and the columns that are still to be made.

A chunk whose worker died is done again document by document, each written down before it is worked on, so that the one at fault is
known. A document that has killed two workers alone is left out, with how it did; any other death was an accident.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from bloomery.core.errors import BadInput
from bloomery.data.documents import Task
from bloomery.data.tables import write_table
from bloomery.data.texts import Editing, Summary, aside, batches_of, edit_batch, read_texts, told, write_texts
from bloomery.seams import Doc

WHOLE = -1  # in the place of a document's number: all of them together
MOST = 100  # documents of one chunk that may kill their workers: beyond, it is not the documents


class Maker(Protocol):
    """Makes the columns of one annotation: data.measured.Measured, data.marks.Keys, data.marks.Signatures."""

    name: str

    def columns(self, docs: Sequence[Doc], poisoned: Mapping[int, str], mark: Callable[[int], None] | None) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Work:
    """What is to be made of every chunk of a source; picklable."""

    desk: str  # a folder in which workers write down where they stand
    source: int  # number of the source
    texts: str = ""  # folder that gets the texts; "" where they are there
    editing: Editing | None = None
    columns: tuple[tuple[str, Maker], ...] = ()  # (folder, maker)


@dataclass(frozen=True)
class Chunk:
    """One piece of work."""

    work: Work
    number: int
    task: Task | None = None  # what is to be read
    files: tuple[str, ...] = ()  # texts of the chunk that are there: to be edited, or to be measured
    careful: bool = False  # document by document
    poisoned: tuple[tuple[str, int, str], ...] = ()  # (work, document, how it killed its worker)

    @property
    def name(self) -> str:
        return f"{self.number:06d}"

    @property
    def diary(self) -> Path:
        """Where a careful worker writes down where it stands."""
        return Path(self.work.desk) / f"{self.work.source}-{self.name}.at"


def annotate(chunk: Chunk) -> dict[str, Any]:
    """Make what is missing of a chunk; returns the bytes read, and which makers had something to make; "texts" is one of them."""
    if not Path(chunk.work.desk).is_dir():
        raise BadInput(f"{chunk.work.desk} cannot be seen by a worker; the store must be on a disk that all machines share")
    made: set[str] = set()
    size = 0
    for file, docs in _texts(chunk, made):
        missing = [(folder, maker) for folder, maker in chunk.work.columns if not (Path(folder) / file.name).is_file()]
        docs = docs or (read_texts(file) if missing else [])
        for folder, maker in missing:
            _write_columns(chunk, maker, file.stem, docs, Path(folder) / file.name)
            made.add(maker.name)
        size += sum(doc.meta["bytes"] for doc in docs)
    if chunk.careful:
        chunk.diary.unlink(missing_ok=True)
    if "texts" in made:
        size = Summary.at(Path(chunk.work.texts) / f"{chunk.name}.json").seen[1]
    return {"bytes": size, "made": sorted(made)}


def _write_columns(chunk: Chunk, maker: Maker, file: str, docs: Sequence[Doc], target: Path) -> None:
    import pyarrow as pa

    place = f"{maker.name}@{file}"
    poisoned = {number: how for work, number, how in chunk.poisoned if work == place}
    if chunk.careful:
        _mark(chunk, place, WHOLE)
    table = pa.table(maker.columns(docs, poisoned, partial(_mark, chunk, place) if chunk.careful else None))
    with aside(target) as part:
        write_table(table, part)


def _texts(chunk: Chunk, made: set[str]) -> Iterator[tuple[Path, list[Doc]]]:
    """The files of texts of a chunk, one after the other as they are made, each with its documents where they are at hand."""
    work = chunk.work
    if not work.texts or work.editing is None:
        yield from ((Path(file), []) for file in chunk.files)
        return
    folder = Path(work.texts)
    done = folder / f"{chunk.name}.json"
    if summary := Summary.at(done):
        yield from ((folder / file, []) for file, _ in summary.files)
        return
    summary = Summary()
    poisoned = {(where, number): how for where, number, how in chunk.poisoned}
    editing = replace(work.editing, poisoned=poisoned, **({"mark": partial(_mark, chunk)} if chunk.careful else {}))
    made.add("texts")
    for batch in batches_of(chunk.task, editing) if chunk.task else map(_numbered, chunk.files):
        path = folder / f"{chunk.name}-{len(summary.files):04d}.parquet"
        docs = edit_batch(batch, editing, summary)
        editing.mark("writing", WHOLE)
        write_texts(docs, path)
        summary.files.append((path.name, len(docs)))
        yield path, list(map(told, docs))
    summary.write(done)


def _numbered(file: str) -> list[tuple[int, Doc]]:
    return list(enumerate(read_texts(Path(file))))


def _mark(chunk: Chunk, work: str, document: int) -> None:
    chunk.diary.write_text(json.dumps([work, document]), encoding="utf-8")


@dataclass
class Deaths:
    """What is known of chunks whose workers died; called with such a chunk and how its worker died, it says what to do next."""

    say: Callable[[str], None]
    seen: dict[Path, list[tuple[str, int] | None]] = field(default_factory=dict)

    def __call__(self, chunk: Chunk, how: str) -> Chunk:
        """The chunk as it is to be done again. RuntimeError where no document can be at fault."""
        seen = self.seen.setdefault(chunk.diary, [])
        at = _written(chunk.diary) if chunk.careful else None
        chunk.diary.unlink(missing_ok=True)
        seen.append(at)
        place = f" at document {at[1]}, {at[0]}" if at else ""
        self.say(f"a worker {how}, in chunk {chunk.number}{place}; it is done again, document by document")
        if not chunk.careful:
            return replace(chunk, careful=True)
        nobody = at is None or at[1] == WHOLE
        if (nobody and seen.count(at) > 3) or len(chunk.poisoned) >= MOST:
            raise RuntimeError(f"workers of chunk {chunk.number} die whatever is left out; the last one {how}")
        if not nobody and seen.count(at) > 1:
            chunk = replace(chunk, poisoned=(*chunk.poisoned, (*at, how)))
        return chunk


def _written(diary: Path) -> tuple[str, int] | None:
    try:
        work, document = json.loads(diary.read_text(encoding="utf-8"))
        return str(work), int(document)
    except (OSError, ValueError):
        return None
