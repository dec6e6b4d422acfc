"""Token shards: one flat array of token ids cut into memory-mapped files, and a table that says where each document lies.

A folder holds `tokens-00000.npy`, `tokens-00001.npy`, ... (uint16 or uint32, the same type in all) and `documents.parquet`
(id, package, path, domain = its kind or "", start = global offset of the first token, tokens, bytes = UTF-8 bytes of the text);
folders written before there were domains lack that column. A document may cross from one file into the next. Where only parts of
documents are to be trained, a column `spans` lists them: (start, stop, weight), counted in tokens of the document.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bloomery.core.errors import BadInput
from bloomery.data.trained_spans import listed, ranges

SHARD_TOKENS = 1 << 26  # tokens per file: 128 MiB of uint16
NAMES = ("id", "package", "path", "domain")  # what is text in the table


class Shards:
    """Documents of token ids, read through memory maps: nothing is loaded before it is asked for."""

    def __init__(self, folder: str | Path) -> None:
        """Open `folder`. Raises BadInput when it holds no shards or when the files and the table disagree."""
        self.folder = Path(folder)
        table = self.folder / "documents.parquet"
        files = sorted(self.folder.glob("tokens-*.npy"))
        if not table.is_file() or not files:
            raise BadInput(f"{self.folder} holds no token shards (documents.parquet and tokens-*.npy); run the tokenize step again")
        import pyarrow.parquet as pq

        columns = pq.read_table(table, columns=["start", "tokens", "bytes"])
        self.starts, self.lengths, self.bytes = (columns[name].to_numpy().astype(np.int64, copy=False) for name in columns.column_names)
        names = pq.read_schema(table).names
        self.spanned, self._labelled = "spans" in names, "domain" in names
        self._spans = pq.read_table(table, columns=["spans"])["spans"].combine_chunks() if self.spanned else None
        self._maps = [_map(file) for file in files]
        self._edges = np.concatenate([[0], np.cumsum([len(part) for part in self._maps])]).astype(np.int64)
        self.total = int(self.lengths.sum())
        if self.total != int(self._edges[-1]):
            raise BadInput(
                f"{self.folder}: the files hold {int(self._edges[-1])} tokens but documents.parquet counts {self.total}; "
                "run the tokenize step again"
            )

    def __len__(self) -> int:
        """Number of documents."""
        return len(self.lengths)

    @property
    def dtype(self) -> np.dtype:
        """Type of the stored ids: uint16 or uint32."""
        return self._maps[0].dtype

    def document(self, i: int) -> np.ndarray:
        """All tokens of document `i`, with its begin and end tokens."""
        return self.span(int(self.starts[i]), int(self.starts[i] + self.lengths[i]))

    def spans(self, i: int) -> list[tuple[int, int, float]]:
        """What is trained of document `i`, as token ranges with weights; an empty list stands for all of it."""
        if self._spans is None:
            return []
        return ranges(self._spans[i].as_py())

    def piece(self, i: int, start: int, stop: int) -> np.ndarray:
        """Tokens `start` to `stop` of document `i`, counted from its first token and cut at its end."""
        begin, length = int(self.starts[i]), int(self.lengths[i])
        return self.span(begin + min(max(start, 0), length), begin + min(max(stop, 0), length))

    def span(self, start: int, stop: int) -> np.ndarray:
        """Tokens between two global offsets: a view where they lie in one file, else a copy."""
        if stop <= start:
            return np.empty(0, self.dtype)
        first = int(np.searchsorted(self._edges, start, side="right")) - 1
        last = int(np.searchsorted(self._edges, stop, side="left")) - 1
        parts = [self._maps[k][max(start - int(self._edges[k]), 0) : stop - int(self._edges[k])] for k in range(first, last + 1)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def domains(self) -> tuple[np.ndarray | None, tuple[str, ...]]:
        """The kind of each document as its place in the sorted names of kinds, and these names; (None, ("",)) where none is known."""
        if not self._labelled:
            return None, ("",)
        import pyarrow.parquet as pq

        column = pq.read_table(self.folder / "documents.parquet", columns=["domain"])["domain"].to_pylist()
        names = sorted({name or "" for name in column}) or [""]
        if names == [""]:
            return None, ("",)
        place = {name: i for i, name in enumerate(names)}
        return np.array([place[name or ""] for name in column], np.int64), tuple(names)

    def table(self) -> Any:
        """The table of documents (pyarrow): id, package, path, domain, start, tokens, bytes."""
        import pyarrow.parquet as pq

        return pq.read_table(self.folder / "documents.parquet")


def _map(file: Path) -> np.ndarray:
    """One file, mapped; an empty array cannot be mapped and is read."""
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError):
        try:
            return np.load(file, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise BadInput(f"{file} is damaged ({error}); run the tokenize step again") from None


def write_shards(
    folder: str | Path,
    documents: Iterable[tuple[Mapping[str, Any], np.ndarray]],
    vocab: int,
    shard_tokens: int = SHARD_TOKENS,
) -> dict[str, int]:
    """Write documents as shards; each is ({"id", "package", "path", "domain", "bytes"}, token ids with begin and end), the former
    with "spans" in all of them or in none.

    Ids are stored as uint16 where `vocab` fits, else uint32. Returns {"documents", "tokens", "bytes"}. No documents at all
    make valid shards of length 0.
    """
    import pyarrow as pa

    from bloomery.data.tables import write_table

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    dtype = np.dtype(np.uint16 if vocab <= 1 << 16 else np.uint32)
    rows: dict[str, list[Any]] = {name: [] for name in (*NAMES, "start", "tokens", "bytes")}
    waiting: list[np.ndarray] = []
    spans: list[list[tuple[int, int, float]]] = []
    held = total = files = 0
    for meta, ids in documents:
        for name in NAMES:
            rows[name].append(str(meta.get(name, "")))
        if "spans" in meta:
            spans.append(meta["spans"])
        for name, value in (("start", total), ("tokens", len(ids)), ("bytes", int(meta["bytes"]))):
            rows[name].append(value)
        waiting.append(np.asarray(ids).astype(dtype, copy=False))
        held += len(ids)
        total += len(ids)
        while held >= shard_tokens:
            block = np.concatenate(waiting)
            np.save(folder / f"tokens-{files:05d}.npy", block[:shard_tokens])
            waiting, held, files = [block[shard_tokens:]], held - shard_tokens, files + 1
    if held or not files:
        np.save(folder / f"tokens-{files:05d}.npy", np.concatenate(waiting) if waiting else np.empty(0, dtype))
    kinds = dict.fromkeys(NAMES, pa.string())
    table = pa.table({name: pa.array(column, kinds.get(name, pa.int64())) for name, column in rows.items()})
    if spans:
        table = table.append_column("spans", listed(spans))
    write_table(table, folder / "documents.parquet")
    return {"documents": len(rows["id"]), "tokens": total, "bytes": int(sum(rows["bytes"]))}
