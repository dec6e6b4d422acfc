"""Corpora as commands name them: artifacts of the store, folders and files of documents, read a few megabytes at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bloomery.core.errors import BadInput

BATCH = 1 << 23  # bytes of text held together, about
ROWS = 64  # rows of Parquet that are read in one go
LONGEST = 1 << 28  # bytes; longer documents are told and left out
RECORDS = (".jsonl", ".ndjson", ".parquet", ".arrow", ".arrows", ".feather", ".ipc", ".csv", ".tsv", ".warc")
COLUMNS = ("id", "text", "path", "package", "domain", "licence", "source", "bytes")


@dataclass(frozen=True)
class Part:
    """A part of a corpus: a Parquet file of an artifact, or everything that sources give. `place` says where it lies."""

    name: str
    place: str
    file: Path | None = None
    sources: tuple[Any, ...] = ()

    def tables(self, unread: Counter[str]) -> Iterator[tuple[Any, Any]]:
        """Tables with their texts as one Arrow array, in order; what cannot be read is counted in `unread` by its reason."""
        yield from _of_parquet(self.file) if self.file else _of_sources(self.sources, unread)


def parts_of(named: Sequence[str], store: Path, text: str = "text") -> list[Part]:
    """Every part of the corpora named: `@NAME` or the folder of an artifact, a folder, a file, a glob or another address of sources.

    `text` is the column of tables that holds the text. BadInput for what is not there or cannot be read.
    """
    from bloomery.core.store import Store
    from bloomery.data import sources

    found: list[Part] = []
    given: list[dict[str, Any]] = []
    for one in named:
        folder = Store(store, make=False).get(one[1:]).folder if one.startswith("@") else Path(one).expanduser()
        if one.startswith("@") or (folder / "train.parquet").is_file():
            found += _artifact(folder, one)
        else:
            given += [{"from": address, "text": text} for address in _addresses(one)]
    if given:
        try:
            opened = sources.open_sources(given)
            sources.check(opened)
        except BadInput as wrong:
            raise BadInput(f"CORPUS: {str(wrong).removeprefix('sources: ')}") from None
        found.append(Part("documents", " ".join(one for one in named if not one.startswith("@")), sources=tuple(opened)))
    twice = Counter(part.name for part in found)
    return [part if twice[part.name] == 1 else replace(part, name=f"{part.name}-{i}") for i, part in enumerate(found)]


def _artifact(folder: Path, named: str) -> list[Part]:
    files = [file for name in ("train", "heldout") if (file := folder / f"{name}.parquet").is_file()]
    if not files:
        raise BadInput(f"CORPUS: {named} holds no documents; name a corpus, conversations, or files")
    return [Part(file.stem, f"{named}/{file.name}", file) for file in files]


def _addresses(named: str) -> list[str]:
    """A folder of records as one pattern for each kind of file in it; anything else as it is."""
    folder = Path(named).expanduser()
    if not folder.is_dir():
        return [named]
    from bloomery.data.sources import ENDINGS

    endings = {_ending(path.name) for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")}
    known = sorted(ending for ending in endings if Path(f"x{ending}").suffixes[0] in ENDINGS)
    return [f"{folder}/**/*{ending}" for ending in known] if any(one.startswith(RECORDS) for one in known) else [named]


def _ending(name: str) -> str:
    """The ending that says how a file is read: .jsonl.gz of a.b.jsonl.gz."""
    endings = Path(name).suffixes
    return "".join(endings[-2:] if endings and endings[-1] in (".gz", ".zst") else endings[-1:]) or ".none"


def _of_parquet(file: Path) -> Iterator[tuple[Any, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as opened:
        held: list[Any] = []
        for batch in opened.iter_batches(ROWS, use_threads=False):
            held.append(batch)
            if sum(one.nbytes for one in held) >= BATCH:
                yield _with_texts(pa.Table.from_batches(held))
                held = []
        yield _with_texts(pa.Table.from_batches(held, opened.schema_arrow))


def _with_texts(table: Any) -> tuple[Any, Any]:
    """A table with the texts of its documents, or of its conversations."""
    import pyarrow as pa

    if "text" in table.schema.names:
        texts = table.column("text").combine_chunks()
        return table, (texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts).fill_null("")
    told = ["\n".join(str(message["content"]) for message in row or ()) for row in table.column("messages").to_pylist()]
    return table, pa.array(told, pa.string())


def _of_sources(opened: Sequence[Any], unread: Counter[str]) -> Iterator[tuple[Any, Any]]:
    import pyarrow as pa

    from bloomery.data import sources
    from bloomery.data.documents import Broken

    schema = pa.schema([(name, pa.int64() if name == "bytes" else pa.string()) for name in COLUMNS])
    rows: list[dict[str, Any]] = []
    held = 0
    for task in sources.tasks(opened, LONGEST):
        for doc in sources.read(task):
            if isinstance(doc, Broken):
                unread[doc.reason] += 1
                continue
            rows.append({"id": doc.id, "text": doc.text, **doc.meta})
            held += doc.meta["bytes"]
            if held >= BATCH:
                yield _with_texts(pa.Table.from_pylist(rows, schema))
                rows, held = [], 0
    yield _with_texts(pa.Table.from_pylist(rows, schema))
