"""The memory of `tokenize` on a corpus many times as large as its `sample`, for each kind of vocabulary.

    python benchmarks/tokenize_memory.py [--quick] [--sample 4MB] [--times 10] [--vocab 4096]

Made-up words, of which a few are frequent and most are rare, are learned from, encoded and measured, each kind in a process of its own.
Prints one JSON line a kind: the largest resident memory beside what `plan` forecasts; a ratio above 1 means that it took no more.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from contenders.turns import memory

from bloomery.core.executors import Local
from bloomery.core.job import Forecast, Job
from bloomery.core.log import Log
from bloomery.core.machine import Machine
from bloomery.core.signals import Signals
from bloomery.core.store import Artifact
from bloomery.data.sizes import parse_size
from bloomery.seams import Rng
from bloomery.stages.tokenize import Tokenize

MODELS = ("byte_bpe", "bpe", "unigram")
WORDS = 200_000  # different ones
LONG = 500  # words of a document


def write(folder: Path, size: int) -> None:
    """A corpus of about `size` bytes, a hundredth of it held out."""
    draw = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    vocabulary = np.array(["".join(draw.choice(letters, draw.integers(2, 12))) for _ in range(WORDS)])
    shares = 1 / np.arange(1, WORDS + 1)
    limits = np.cumsum(shares / shares.sum())
    for part, most in (("train", size), ("heldout", size // 100)):
        schema = pa.schema([(name, pa.string()) for name in ("id", "text", "path", "package")] + [("bytes", pa.int64())])
        written = number = 0
        with pq.ParquetWriter(folder / f"{part}.parquet", schema) as file:
            while written < most:
                drawn = np.minimum(np.searchsorted(limits, draw.random((256, LONG))), WORDS - 1)
                texts = [" ".join(row) for row in vocabulary[drawn]]
                ids = [f"{part}{number + k}" for k in range(len(texts))]
                sizes = [len(text) for text in texts]
                file.write_table(pa.table([ids, texts, ids, ids, sizes], schema=schema))
                written, number = written + sum(sizes), number + len(texts)


def stage(folder: Path, model: str, sample: str, vocab: int) -> Tokenize:
    facts = {f"{part}_bytes": (folder / f"{part}.parquet").stat().st_size for part in ("train", "heldout")}
    return Tokenize(Artifact("a" * 64, folder, {"facts": facts, "kind": "corpus"}), vocab=vocab, model=model, sample=sample)


def work(folder: Path, model: str, sample: str, vocab: int) -> None:
    """The stage in this process; prints its largest resident memory in bytes."""
    places = [folder / model / name for name in ("out", "work")]
    for place in places:
        place.mkdir(parents=True)
    stage(folder, model, sample, vocab).run(Job(*places, Rng((0, "tokenize")), 0, Log(quiet=True), Local(1), None, {}, Signals()))
    print(memory())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a sample of 500 kB")
    parser.add_argument("--sample", default="4MB")
    parser.add_argument("--times", type=float, default=10.0, help="bytes of the corpus for one of the sample")
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--within", nargs=2, metavar=("FOLDER", "MODEL"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    sample = "500kB" if given.quick else given.sample
    if given.within:
        work(Path(given.within[0]), given.within[1], sample, given.vocab)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, int(given.times * parse_size(sample, "sample")))
        for model in MODELS:
            command = [sys.executable, __file__, "--sample", sample, "--vocab", str(given.vocab), "--within", name, model]
            peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
            one = stage(folder, model, sample, given.vocab)
            planned = one.forecast({"corpus": Forecast(0, 0, 0, one.corpus.facts)}, Machine("", 1, 8 << 30, False, {})).memory
            line = {"contest": f"tokenize-memory-{model}", "unit": "MB", "ours": round(peak / 1e6, 1), "peer": "plan"}
            print(json.dumps({**line, "peer_value": round(planned / 1e6, 1), "ratio": round(planned / peak, 2)}), flush=True)


if __name__ == "__main__":
    main()
