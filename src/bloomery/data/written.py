"""What the Parquet file of a corpus holds, read a group of rows at a time: its size, its packages, and its ids in 16 bytes each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Written:
    """Of one file. `marks` are hashes of the ids, uint64 (documents, 2)."""

    documents: int
    bytes: int
    packages: set[str]
    marks: np.ndarray


def written(path: str | Path) -> Written:
    """Reads the file once."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    size, packages, marks = 0, set[str](), [np.zeros((0, 2), np.uint64)]
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=["id", "package", "text"], use_threads=False)
            size += pc.sum(pc.binary_length(table.column("text"))).as_py() or 0
            packages.update(pc.unique(table.column("package")).to_pylist())
            told = b"".join(hashlib.blake2b(one.encode(), digest_size=16).digest() for one in table.column("id").to_pylist())
            marks.append(np.frombuffer(told, np.uint64).reshape(-1, 2))
    whole = np.concatenate(marks)
    return Written(len(whole), size, packages, whole)


def repeated_ids(files: Iterable[Written]) -> int:
    """How many documents of all files have an id that another one before them has."""
    marks = np.concatenate([one.marks for one in files])
    order = np.lexsort(marks.T)
    same = np.ones(max(0, len(order) - 1), bool)
    for side in range(2):
        column = marks[order, side]
        same &= column[1:] == column[:-1]
    return int(same.sum())
