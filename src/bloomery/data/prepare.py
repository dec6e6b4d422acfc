"""The work of one curate chunk, done by any worker: read, edit, measure, and leave a Parquet file whose name is its number."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bloomery.core.errors import BadInput
from bloomery.data import sources
from bloomery.data.documents import Broken, Task
from bloomery.data.tables import write_table
from bloomery.seams import Doc, Drop, Edit, Rng, Signal, Tools

BATCH = 32_000_000  # bytes of text held at once
META = ("id", "path", "package", "domain", "licence", "source")
TROUBLE = (MemoryError, OSError)  # of the machine (a full disk, no memory): never the fault of a document, so never a reason to drop one


@dataclass(frozen=True)
class Recipe:
    """What happens to every document, the same for all chunks; picklable."""

    folder: str  # where the chunks go
    edits: tuple[tuple[str, Edit], ...]  # (name, method)
    signals: tuple[tuple[str, Signal], ...]
    minhash: bool
    rng: Rng


def method_name(method: Any) -> str:
    """The name of a method in recipes: that of its file."""
    return type(method).__module__.rsplit(".", 1)[-1]


def signal_columns(signals: Sequence[tuple[str, Signal]]) -> list[str]:
    """Names of all columns that the signals make, asked of no documents. Raises BadInput when two share a name."""
    names = [f"{name}.{column}" for name, signal in signals for column in signal.columns([], None)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise BadInput(f"signals: {twice[0].split('.')[0]} is named twice; name each signal once")
    return names


def prepare(item: tuple[int, Task], recipe: Recipe) -> dict[str, Any]:
    """Make chunk `item`, unless an earlier run has; returns its summary: names of its files, what was read, rewritten, dropped."""
    number, task = item
    name, folder = f"chunk-{number:06d}", Path(recipe.folder)
    done = folder / f"{name}.json"
    if done.is_file():
        return json.loads(done.read_text())
    summary: dict[str, Any] = {"files": [], "seen": [0, 0], "rewritten": [0, 0], "dropped": []}
    for batch in _batches(task):
        prepare_batch(batch, recipe, folder / f"{name}-{len(summary['files']):04d}.parquet", summary)
    with aside(done) as part:
        part.write_text(json.dumps(summary))
    return summary


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """Where to write what becomes `path` once it is whole; named after the process, as a worker of a killed run may still write."""
    part = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    yield part
    os.replace(part, path)


def _batches(task: Task) -> Iterator[list[Doc | Broken]]:
    """What a task holds, in lists of about BATCH bytes: a compressed file is one task, and may be larger than memory."""
    batch: list[Doc | Broken] = []
    held = 0
    for found in sources.read(task):
        batch.append(found)
        held += _size(found)
        if held >= BATCH:
            yield batch
            batch, held = [], 0
    yield batch


def _size(found: Doc | Broken) -> int:
    return found.bytes if isinstance(found, Broken) else found.meta["bytes"]


def prepare_batch(batch: Sequence[Doc | Broken], recipe: Recipe, file: Path, summary: dict[str, Any], tools: Any = None) -> None:
    """Edit and measure a batch, write what is left of it to `file`, and add it to the summary. Of `tools` all verbs of seams.Tools are
    used by methods, and `each`, which answers the questions of many documents together."""
    docs: list[Doc] = []
    dropped: list[Broken] = []
    work = partial(_edited, recipe=recipe)
    sound = list(map(_refused, batch))
    for kept, left in tools.each(work, sound) if tools else map(work, sound):
        docs += kept
        dropped += left
    removed = [len(batch) - len(docs) - len(dropped), sum(map(_size, batch)) - sum(map(_size, docs)) - sum(map(_size, dropped))]
    docs, columns, poisoned = measured(docs, recipe.signals, tools)
    with aside(file) as part:
        write_table(_table(docs, columns, recipe.minhash), part)
    summary["files"].append(file.name)  # without its folder, which another working folder calls by another name
    summary["dropped"] += [vars(replace(one, id=one.id or one.path)) for one in (*dropped, *poisoned)]
    summary["seen"] = [summary["seen"][0] + len(batch), summary["seen"][1] + sum(map(_size, batch))]
    summary["rewritten"] = [old + new for old, new in zip(summary["rewritten"], removed, strict=True)]


def _refused(found: Doc | Broken) -> Doc | Broken:
    """A document without text, or with NUL characters, is none."""
    if isinstance(found, Broken):
        return found
    reason = "empty" if not found.text or found.text.isspace() else "binary" if "\0" in found.text else ""
    return _left_out(found, reason) if reason else found


def _left_out(doc: Doc, reason: str, note: str = "") -> Broken:
    meta = doc.meta
    return Broken(reason, meta["path"], meta["bytes"], note, meta["package"], meta["licence"], doc.id)


def _edited(doc: Doc | Broken, tools: Tools | None = None, *, recipe: Recipe) -> tuple[list[Doc], list[Broken]]:
    """One document after all edits, as what is left of it and what was dropped; an edit that fails drops its document."""
    if isinstance(doc, Broken):
        return [], [doc]
    docs, dropped = [doc], []
    for name, edit in recipe.edits:
        after: list[Doc] = []
        for one in docs:
            try:
                result = edit.edit(one, tools, recipe.rng.child("edit", name, one.id))
            except TROUBLE:
                raise
            except Exception as error:  # a poisoned document must not take its batch along
                dropped.append(_left_out(one, f"{name} failed", f"{type(error).__name__}: {error}"[:200]))
                continue
            if isinstance(result, Drop):
                dropped.append(_left_out(one, f"{name}: {result.reason}"))
                continue
            for piece in result:
                piece = _refused(replace(piece, meta={**one.meta, **piece.meta, "bytes": len(piece.text.encode("utf-8", "replace"))}))
                (dropped if isinstance(piece, Broken) else after).append(piece)
        docs = after
    return docs, dropped


def measured(
    docs: list[Doc], signals: Sequence[tuple[str, Signal]], tools: Tools | None = None
) -> tuple[list[Doc], dict[str, np.ndarray], list[Broken]]:
    """Signal columns of all documents; when a signal fails on a batch, the documents at fault are found and left out."""
    try:
        return docs, _columns(docs, signals, tools), []
    except TROUBLE:
        raise
    except Exception:
        good, bad = [], []
        for doc in docs:
            try:
                _columns([doc], signals, tools)
                good.append(doc)
            except TROUBLE:
                raise
            except Exception as error:
                bad.append(_left_out(doc, "signal failed", f"{type(error).__name__}: {error}"[:200]))
        if not bad:
            raise
        return good, _columns(good, signals, tools), bad


def _columns(docs: Sequence[Doc], signals: Sequence[tuple[str, Signal]], tools: Tools | None) -> dict[str, np.ndarray]:
    columns = {}
    for name, signal in signals:
        for column, values in signal.columns(docs, tools).items():
            columns[f"{name}.{column}"] = array = np.asarray(values, np.float64)
            if array.shape != (len(docs),):
                raise ValueError(f"signal {name} gave {array.shape} values of {column} for {len(docs)} documents")
    return columns


def _table(docs: Sequence[Doc], columns: Mapping[str, np.ndarray], minhash: bool) -> Any:
    """The chunk as a table: id, text, path, package, domain, licence, source, bytes, signals, and what finding duplicates needs."""
    import pyarrow as pa

    from bloomery.data.duplicates import exact_key
    from bloomery.data.minhash import PERMUTATIONS, signatures

    texts = [doc.text for doc in docs]
    rows = {"id": [doc.id for doc in docs], "text": texts, **{name: [doc.meta.get(name, "") for doc in docs] for name in META[1:]}}
    table: dict[str, Any] = {name: pa.array(values, pa.string()) for name, values in rows.items()}
    table["bytes"] = pa.array([doc.meta["bytes"] for doc in docs], pa.int64())
    table.update({name: pa.array(values, pa.float64()) for name, values in columns.items()})
    table["_key"] = pa.array([exact_key(text) for text in texts], pa.binary(32))
    if minhash:
        signature, counts = signatures(texts)
        kind = pa.binary(4 * PERMUTATIONS)
        table["_signature"] = pa.array([row.tobytes() if n else None for row, n in zip(signature, counts, strict=True)], kind)
    return pa.table(table)
