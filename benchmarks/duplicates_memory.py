"""The memory that finding duplicates takes on input ten times larger than its bound, over what the process had before.

    python benchmarks/duplicates_memory.py [--quick] [--memory 32MB]

Synthetic texts, one in five a near copy, in Parquet files of 8 MB, read file by file. Prints one JSON line per search: the largest
resident memory above that of a rehearsal on a few texts, in MB, beside the bound; a ratio above 1 means that the bound was kept.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bloomery.data.minhash import signatures
from bloomery.data.near import components
from bloomery.data.passages import repeated_passages
from bloomery.data.sizes import parse_size

FILE = 8_000_000  # bytes of text in a file
PASSAGE = 50


def write(folder: Path, size: int) -> None:
    """Files of about `size` bytes of texts of 100 to 500 words; a near copy has one word in fifty changed."""
    gen = np.random.default_rng(0)
    vocabulary = np.array([f"w{number:x}" for number in gen.integers(0, 1 << 28, 100_000)])
    last, written, number = np.zeros(0, vocabulary.dtype), 0, 0
    while written < size:
        texts, held = [], 0
        while held < FILE:
            words = vocabulary[gen.integers(0, len(vocabulary), gen.integers(100, 500))]
            if gen.random() < 0.2 and len(last):
                words = np.where(gen.random(len(last)) < 0.02, vocabulary[gen.integers(0, len(vocabulary), len(last))], last)
            last = words
            texts.append(" ".join(words.tolist()))
            held += len(texts[-1])
        pq.write_table(pa.table({"text": texts}), folder / f"{number:04d}.parquet")
        written, number = written + held, number + 1


class Files:
    """Texts by number, read file by file; the last file stays at hand."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.glob("*.parquet"))
        self.ends = np.cumsum([pq.read_metadata(file).num_rows for file in self.files])
        self.lengths = np.concatenate([self._sizes(file) for file in self.files])
        self.last: tuple[Path | None, pa.ChunkedArray | None] = (None, None)

    def _sizes(self, file: Path) -> np.ndarray:
        import pyarrow.compute as pc

        return pc.binary_length(pq.read_table(file).column("text")).to_numpy().astype(np.int64)

    def signatures(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for file, end in zip(self.files, self.ends, strict=True):
            signature, counts = signatures(pq.read_table(file).column("text"))
            yield np.arange(end - len(counts), end), signature

    def texts(self, rows: np.ndarray) -> pa.Array:
        begins = np.append(0, self.ends[:-1])
        parts = []
        for file, begin, end in zip(self.files, begins, self.ends, strict=True):
            here = rows[(rows >= begin) & (rows < end)]
            if len(here):
                if self.last[0] != file:
                    self.last = (file, pq.read_table(file).column("text"))
                parts.append(self.last[1].take(pa.array(here - begin)).combine_chunks())
        return pa.concat_arrays(parts)


def search(kind: str, folder: Path, memory: int) -> int:
    """Rows or passages found."""
    files = Files(folder)
    if kind == "passages":
        return len(repeated_passages(files.texts, files.lengths, PASSAGE, memory, folder))
    return len(components(files.signatures(), files.texts, 0.8, files.lengths, memory, folder)[0])


def measured(kind: str, folder: Path, memory: int) -> tuple[int, int]:
    """What was found, and the bytes above a rehearsal."""
    with tempfile.TemporaryDirectory() as few:
        write(Path(few), 1)
        search(kind, Path(few), memory)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = search(kind, folder, memory)
    return found, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a bound of 8 MB")
    parser.add_argument("--memory", default="32MB")
    parser.add_argument("--inside", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    memory = 8_000_000 if given.quick else parse_size(given.memory, "memory")
    if given.inside:
        print(*measured(given.inside[0], Path(given.inside[1]), memory))
        return
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), 10 * memory)
        for kind in ("near", "passages"):
            command = [sys.executable, __file__, "--memory", str(memory), "--inside", kind, name]
            found, peak = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
            line = {"contest": f"duplicates-memory-{kind}", "unit": "MB", "ours": round(peak / 1e6, 1), "peer": "bound", "found": found}
            print(json.dumps({**line, "peer_value": memory / 1e6, "ratio": round(memory / max(1, peak), 2)}), flush=True)


if __name__ == "__main__":
    main()
