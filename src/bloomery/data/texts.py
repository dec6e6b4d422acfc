"""The texts of a chunk: read, edited, and left as Parquet files by any worker. What cannot be used is written down with its reason."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from bloomery.data import sources
from bloomery.data.columns import ABOUT, MARKS, TOLD
from bloomery.data.documents import TROUBLE, Broken, Task
from bloomery.data.tables import read_table, write_table
from bloomery.data.trained_spans import listed, ranges, still
from bloomery.seams import Doc, Drop, Edit, Rng

BATCH = 8_000_000  # bytes of text held at once, and in one file at most


def unmarked(work: str, document: int) -> None:
    """Nobody is told where the work stands."""


@dataclass(frozen=True)
class Editing:
    """What happens to every document of a source; picklable."""

    edits: tuple[tuple[str, Edit], ...]  # (name, method)
    rng: Rng
    tools: Any = field(default=None, compare=False)  # all verbs of seams.Tools, and `each`; None for edits that ask nobody
    poisoned: Mapping[tuple[str, int], str] = field(default_factory=dict)  # (work, document): how it has killed its worker
    mark: Callable[[str, int], None] = unmarked  # told before each document is worked on


def method_name(method: Any) -> str:
    """The name of a method in recipes: that of its file."""
    return type(method).__module__.rsplit(".", 1)[-1]


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """Where to write what becomes `path` once it is whole; named after the process, as a worker of a killed run may still write."""
    part = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    yield part
    os.replace(part, path)


def batches_of(task: Task, editing: Editing) -> Iterator[list[tuple[int, Doc | Broken]]]:
    """What a task holds, numbered, in lists of about BATCH bytes: a compressed file is one task, and may be larger than memory.

    Where reading itself has killed its worker, the rest of the task stays unread.
    """
    batch: list[tuple[int, Doc | Broken]] = []
    held = number = 0
    found = sources.read(task)
    while True:
        if how := editing.poisoned.get(("reading", number)):
            batch.append((number, Broken("unread", task.source, 0, f"what follows document {number} of a chunk {how}")))
            break
        editing.mark("reading", number)
        one = next(found, None)
        if one is None:
            break
        batch.append((number, one))
        number += 1
        held += size_of(one)
        if held >= BATCH:
            yield batch
            batch, held = [], 0
    yield batch


def size_of(found: Doc | Broken) -> int:
    return found.bytes if isinstance(found, Broken) else found.meta["bytes"]


@dataclass
class Summary:
    """What became of a chunk, as its JSON file has it: names of files with their rows, and (documents, bytes) seen and rewritten."""

    files: list[tuple[str, int]] = field(default_factory=list)
    seen: list[int] = field(default_factory=lambda: [0, 0])
    rewritten: list[int] = field(default_factory=lambda: [0, 0])
    dropped: list[dict[str, Any]] = field(default_factory=list)
    marked: int = 0  # documents of which not all is to be trained

    @classmethod
    def at(cls, path: Path) -> Summary | None:
        """That of a finished chunk, None where it is not."""
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None

    def write(self, path: Path) -> None:
        with aside(path) as part:
            part.write_text(json.dumps(vars(self)), encoding="utf-8")


def edit_batch(batch: Sequence[tuple[int, Doc | Broken]], editing: Editing, summary: Summary) -> list[Doc]:
    """The documents that are left of a batch after all edits; what was dropped or rewritten is added to the summary."""
    docs: list[Doc] = []
    dropped: list[Broken] = []
    work = partial(_edited, editing=editing)
    sound = [(number, _refused(found)) for number, found in batch]
    for kept, left in editing.tools.each(work, sound) if editing.tools else map(work, sound):
        docs += kept
        dropped += left
    before, after = [found for _, found in batch], [*docs, *dropped]
    summary.dropped += [vars(replace(one, id=one.id or one.path)) for one in dropped]
    summary.marked += sum(bool(doc.spans) for doc in docs)
    for total, change in ((summary.seen, [len(before), sum(map(size_of, before))]), (summary.rewritten, _change(before, after))):
        total[0] += change[0]
        total[1] += change[1]
    return docs


def _change(before: Sequence[Doc | Broken], after: Sequence[Doc | Broken]) -> list[int]:
    return [len(before) - len(after), sum(map(size_of, before)) - sum(map(size_of, after))]


def _refused(found: Doc | Broken) -> Doc | Broken:
    """A document without text, with NUL characters or with halves of characters is none."""
    if isinstance(found, Broken):
        return found
    reason = "empty" if not found.text or found.text.isspace() else "binary" if "\0" in found.text else ""
    if not reason:
        try:
            found.text.encode()
            return found
        except UnicodeEncodeError:
            reason = "malformed"
    return _left_out(found, reason)


def _left_out(doc: Doc, reason: str, note: str = "") -> Broken:
    meta = doc.meta
    return Broken(reason, meta["path"], meta["bytes"], note, meta["package"], meta["licence"], doc.id)


def _edited(item: tuple[int, Doc | Broken], tools: Any = None, *, editing: Editing) -> tuple[list[Doc], list[Broken]]:
    """One document after all edits, as what is left of it and what was dropped; an edit that fails drops its document."""
    number, doc = item
    if isinstance(doc, Broken):
        return [], [doc]
    docs, dropped = [doc], []
    for name, edit in editing.edits:
        after: list[Doc] = []
        how = editing.poisoned.get((name, number), "")
        for one in docs:
            try:
                if how:
                    dropped.append(_left_out(one, f"{name} failed", how))
                    continue
                editing.mark(name, number)
                result = edit.edit(one, tools, editing.rng.child("edit", name, one.id))
            except TROUBLE:
                raise
            except Exception as error:  # a poisoned document must not take its batch along
                dropped.append(_left_out(one, f"{name} failed", f"{type(error).__name__}: {error}"[:200]))
                continue
            if isinstance(result, Drop):
                dropped.append(_left_out(one, f"{name}: {result.reason}"))
                continue
            for piece in result:
                piece = still(one, piece)
                piece = _refused(replace(piece, meta={**one.meta, **piece.meta, "bytes": len(piece.text.encode("utf-8", "replace"))}))
                (dropped if isinstance(piece, Broken) else after).append(piece)
        docs = after
    return docs, dropped


def write_texts(docs: Sequence[Doc], path: Path) -> None:
    """A file of texts, with the columns ABOUT and MARKS."""
    import pyarrow as pa

    told = {name: [doc.meta.get(name, "") for doc in docs] for name in TOLD[:-1]}
    rows = {"id": [doc.id for doc in docs], "text": [doc.text for doc in docs], **told}
    table = {name: pa.array(values, pa.string()) for name, values in rows.items()}
    with aside(path) as part:
        sizes, marks = pa.array([doc.meta["bytes"] for doc in docs], pa.int64()), listed([doc.spans for doc in docs])
        write_table(pa.table({**table, "bytes": sizes, MARKS: marks}), part)


def read_texts(path: Path) -> list[Doc]:
    """The documents of a file of texts, with what the file tells of them: all that later methods may use."""
    rows = read_table(path, [*ABOUT, MARKS]).to_pylist()
    return [Doc(row["id"], row["text"], {name: row[name] for name in TOLD}, ranges(row[MARKS])) for row in rows]


def told(doc: Doc) -> Doc:
    """A document as `read_texts` would give it back."""
    return Doc(doc.id, doc.text, {name: doc.meta.get(name, "") for name in TOLD}, doc.spans)
