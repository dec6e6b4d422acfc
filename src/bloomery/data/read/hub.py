"""`hf://name?split=train&text=text`: a data set of the Hugging Face hub, or of a local folder, through `datasets` (streaming)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.data.documents import COLUMNS, Broken, Task, make
from bloomery.data.sources import CHUNK, Source
from bloomery.seams import Doc

GUESS = 100_000_000  # bytes of text when nothing is known of a data set


def _name(source: Source) -> str:
    return os.path.expanduser(source.address.removeprefix("hf://"))


@lru_cache(maxsize=64)
def _commit(name: str) -> str | None:
    """The newest commit of a data set of the hub, asked for once, so that what is read is what the fingerprint names."""
    from huggingface_hub import HfApi

    return HfApi().dataset_info(name, timeout=20).sha


def _stream(source: Source) -> Any:
    """The rows of the data set as an iterable. Raises BadInput when the library or the data set is out of reach."""
    try:
        import datasets
    except ImportError:
        raise BadInput(f"sources: {source.address} needs the `datasets` library; run `pip install datasets`") from None
    name, options = _name(source), source.options
    try:
        revision = None if os.path.isdir(name) else _commit(name)
        return datasets.load_dataset(name, options.config or None, split=options.split, revision=revision, streaming=True)
    except Exception as error:  # the library raises its own, those of the hub and those of the network
        cause = (str(error).splitlines() or [type(error).__name__])[0][:200]
        mend = "check name, split and config" if os.path.isdir(name) else "check the name, the split and the network"
        raise BadInput(f"sources: {source.address} (split {options.split!r}) cannot be opened: {cause}; {mend}") from None


def check(source: Source) -> None:
    """Open the data set and look at its first row."""
    try:
        row = next(iter(_stream(source)), None)
    except BadInput:
        raise
    except Exception as error:
        cause = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise BadInput(f"sources: {source.address} cannot be read: {cause}; check the data set and the network") from None
    if row is None:
        raise BadInput(f"sources: {source.address} (split {source.options.split!r}) is empty; choose another split")
    for knob in COLUMNS:
        column = getattr(source.options, knob)
        if column and column not in row:
            raise BadInput(f"sources: {source.address} has no column {column!r}; it has {', '.join(row)}; say `{knob}: NAME`")


def size(source: Source) -> int:
    """Bytes of a local folder, else a guess."""
    folder = Path(_name(source))
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else GUESS


def fingerprint(source: Source) -> dict[str, Any]:
    """Hashes of the files of a local folder, or the commit that the hub names."""
    folder, options = Path(_name(source)), source.options
    about = {"address": source.address, "split": options.split, "config": options.config, "limit": options.limit}
    if folder.is_dir():
        digest = hashlib.sha256()
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            with open(path, "rb") as handle:
                digest.update(f"{path.relative_to(folder).as_posix()}\0{hashlib.file_digest(handle, 'sha256').hexdigest()}\n".encode())
        return {**about, "sha256": digest.hexdigest()}
    try:
        return {**about, "commit": _commit(_name(source))}
    except Exception as error:
        cause = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise BadInput(f"sources: {source.address}: the hub does not answer: {cause}; check the name and the network") from None


def tasks(source: Source, limit: int) -> Iterator[Task]:
    """The stream is read here, once, and its rows travel to the workers."""
    options = source.options
    wanted = [c for c in (options.text, options.id, options.path, options.package, options.domain, options.licence) if c]
    run: list[dict[str, Any]] = []
    held = first = 0
    for row in islice(_stream(source), options.limit or None):
        run.append({name: row[name] for name in wanted if name in row})
        held += len(str(row.get(options.text) or ""))
        if held >= CHUNK:
            yield Task("hub", source.address, (first, tuple(run)), options, limit)
            first, run, held = first + len(run), [], 0
    if run:
        yield Task("hub", source.address, (first, tuple(run)), options, limit)


def read(task: Task) -> Iterator[Doc | Broken]:
    """One document per row; `split:row` is its path, rows counted from 1."""
    first, rows = task.where
    for k, row in enumerate(rows):
        yield make(task, f"{task.options.split}:{first + k + 1}", row.get(task.options.text), row)
