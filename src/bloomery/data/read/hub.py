"""`hf://name?split=train&text=text`: a data set of the Hugging Face hub, or of a local folder, through `datasets` (streaming).

A task is a shard, which is a file of the data set: workers stream shards side by side, and a resumed run does not fetch a shard again
that it has read. Nothing is stored but what the library itself keeps.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.data.documents import COLUMNS, Broken, Task, make
from bloomery.data.read.places import quiet
from bloomery.data.read.rows import columns
from bloomery.data.sources import Source
from bloomery.seams import Doc

GUESS = 100_000_000  # bytes of text when nothing is known of a data set


def _name(source: Source) -> str:
    return os.path.expanduser(source.address.removeprefix("hf://"))


@lru_cache(maxsize=64)
def _commit(name: str, revision: str = "") -> str | None:
    """The commit of a data set of the hub, asked for once, so that what is read is what the fingerprint names."""
    from huggingface_hub import HfApi

    return HfApi().dataset_info(name, revision=revision or None, timeout=20).sha


def _pinned(source: Source) -> str | None:
    return None if os.path.isdir(_name(source)) else _commit(_name(source), source.options.revision)


@lru_cache(maxsize=8)
def _loaded(name: str, config: str, split: str, commit: str | None) -> Any:
    import datasets

    return datasets.load_dataset(name, config or None, split=split, revision=commit, streaming=True)


def _stream(source: Source) -> Any:
    """The rows of the data set as an iterable. Raises BadInput when the library or the data set is out of reach."""
    try:
        import datasets  # noqa: F401
    except ImportError:
        raise BadInput(f"sources: {source.address} needs the `datasets` library; run `pip install datasets`") from None
    name, options = _name(source), source.options
    try:
        return _loaded(name, options.config, options.split, _pinned(source))
    except Exception as error:  # the library raises its own, those of the hub and those of the network
        mend = "check name, split and config" if os.path.isdir(name) else "check the name, the split and the network"
        raise BadInput(f"sources: {source.address} (split {options.split!r}) cannot be opened: {quiet(error)}; {mend}") from None


def check(source: Source) -> None:
    """Open the data set and look at its first row."""
    try:
        row = next(iter(_stream(source)), None)
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(f"sources: {source.address} cannot be read: {quiet(error)}; check the data set and the network") from None
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
        return {**about, "commit": _pinned(source)}
    except Exception as error:
        raise BadInput(f"sources: {source.address}: the hub does not answer: {quiet(error)}; check the name and the network") from None


def tasks(source: Source, limit: int) -> Iterator[Task]:
    """A task for each shard, or one for all where only the first documents are asked for; where: shards from and to, of, commit."""
    stream = _stream(source)
    shards, commit = stream.num_shards, _pinned(source)
    step = shards if source.options.limit else 1
    for first in range(0, shards, step):
        yield Task("hub", source.address, (first, first + step, shards, commit), source.options, limit)


def read(task: Task) -> Iterator[Doc | Broken]:
    """One document per row; `split/shard:row` is its path, rows counted from 1."""
    wanted = columns(task.options)
    for place, row in _rows(task):
        yield make(task, place, row.get(task.options.text), {name: row.get(name) for name in wanted})


def _rows(task: Task) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows with their places. Raises BadInput where the stream breaks off."""
    first, stop, shards, commit = task.where
    options, left = task.options, task.options.limit or sys.maxsize
    try:
        stream = _loaded(_name(Source(task.source, "hub", options)), options.config, options.split, commit)
        for shard in range(first, stop):
            for k, row in enumerate(islice(stream.shard(shards, shard, contiguous=True), left), 1):
                yield f"{options.split}/{shard}:{k}", row
                left -= 1
    except MemoryError:
        raise
    except Exception as error:  # of the network, after the library has tried again
        raise BadInput(f"sources: {task.source} broke off: {quiet(error)}; run again, what is done is kept") from None
