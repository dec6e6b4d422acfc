"""One contestant at finding near duplicates, run in the environment that has it: from a file to the ids that it would remove.

    python benchmarks/peers/duplicates.py NAME TEXTS.parquet WORKERS FOLDER

All: words are \\w+ in lower case where the tool lets one say so, shingles of 5 words, 126 or 128 permutations in 21 bands of 6 rows,
Jaccard 0.8. The last line printed is {"seconds", "busy", "removed"}, seconds of the clock and of all processors; imports and a
rehearsal on a few texts are in neither.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from pathlib import Path

BANDS, ROWS, THRESHOLD = 21, 6, 0.8


def shingles(text: str) -> set[str]:
    words = re.findall(r"\w+", text.lower())
    return {" ".join(words[i : i + 5]) for i in range(len(words) - 4)}


def read(file: str) -> tuple[list[int], list[str]]:
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    return table.column("id").to_pylist(), table.column("text").to_pylist()


def bloomery(file: str, workers: int, folder: Path) -> list[int]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from bloomery.data.minhash import signatures
    from bloomery.data.near import components
    from bloomery.data.parallel import batches, threaded

    table = pq.read_table(file)
    texts = table.column("text").combine_chunks()
    sizes = np.diff(np.frombuffer(texts.buffers()[1], np.int32)[texts.offset :][: len(texts) + 1])
    parts = batches(np.arange(len(texts)), sizes, 2_000_000)
    made = list(threaded(lambda part: signatures(texts[int(part[0]) : int(part[-1]) + 1]), parts, workers))
    signature, counts = (np.concatenate([one[k] for one in made]) for k in (0, 1))
    signed = np.flatnonzero(counts)
    take = lambda chosen: texts.take(pa.array(chosen))  # noqa: E731
    rows, first = components([(signed, signature[signed])], take, THRESHOLD, sizes, 1 << 29, folder, workers)
    return table.column("id").to_numpy()[rows[rows != first]].tolist()


def datasketch(file: str, workers: int, folder: Path) -> list[int]:
    from datasketch import MinHash, MinHashLSH

    ids, texts = read(file)
    lsh, removed, kept = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS)), [], {}
    for name, text in zip(ids, texts, strict=True):
        if tokens := shingles(text):
            sketch = MinHash(num_perm=BANDS * ROWS)
            sketch.update_batch([token.encode() for token in tokens])
            if any(sketch.jaccard(kept[other]) >= THRESHOLD for other in lsh.query(sketch)):
                removed.append(name)
            else:
                kept[name] = sketch
                lsh.insert(name, sketch)
    return removed


def rensa(file: str, workers: int, folder: Path) -> list[int]:
    from rensa import RMinHash, RMinHashLSH

    ids, texts = read(file)
    lsh, removed, kept = RMinHashLSH(threshold=THRESHOLD, num_perm=BANDS * ROWS, num_bands=BANDS), [], {}
    for number, (name, text) in enumerate(zip(ids, texts, strict=True)):
        if tokens := shingles(text):
            sketch = RMinHash(num_perm=BANDS * ROWS, seed=42)
            sketch.update(list(tokens))
            if any(sketch.jaccard(kept[other]) >= THRESHOLD for other in lsh.query(sketch)):
                removed.append(name)
            else:
                kept[number] = sketch
                lsh.insert(number, sketch)
    return removed


def text_dedup(file: str, workers: int, folder: Path) -> list[int]:
    from datasets import load_from_disk
    from text_dedup.minhash import main

    told = {
        "path": "parquet", "data_files": file, "split": "train", "column": "text", "output": folder / "out", "cache_dir": folder / "cache",
        "num_proc": workers, "ngram": 5, "num_perm": BANDS * ROWS, "threshold": THRESHOLD, "b": BANDS, "r": ROWS, "hash_func": "xxh3",
    }  # fmt: skip
    with contextlib.suppress(SystemExit):
        main([str(part) for name, value in told.items() for part in (f"--{name}", value)])
    ids, _ = read(file)
    return sorted(set(ids) - set(load_from_disk(str(folder / "out"))["id"]))


def datatrove(file: str, workers: int, folder: Path) -> list[int]:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup.minhash import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )  # fmt: skip
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.word_tokenizers import WordTokenizer

    class Words(WordTokenizer):
        def word_tokenize(self, text):
            return re.findall(r"\w+", text)

        def sent_tokenize(self, text):
            return [text]

        def span_tokenize(self, text):
            return [(0, len(text))]

    config, steps = MinhashConfig(n_grams=5, num_buckets=BANDS, hashes_per_bucket=ROWS), {name: str(folder / name) for name in "sbcr"}
    reader = ParquetReader(str(Path(file).parent / "parts"))
    stages = [
        ([reader, MinhashDedupSignature(steps["s"], config, Words())], 2),
        ([MinhashDedupBuckets(steps["s"], steps["b"], config=config)], BANDS),
        ([MinhashDedupCluster(steps["b"], steps["c"], config=config)], 1),
        ([reader, MinhashDedupFilter(steps["c"], exclusion_writer=JsonlWriter(steps["r"], compression=None))], 2),
    ]
    for k, (pipeline, tasks) in enumerate(stages):
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=min(workers, tasks), logging_dir=str(folder / f"log{k}")).run()
    return sorted(int(json.loads(line)["id"]) for part in Path(steps["r"]).glob("**/*.jsonl") for line in part.open())


def data_juicer(file: str, workers: int, folder: Path) -> list[int]:
    from data_juicer.core.data import NestedDataset
    from data_juicer.ops.deduplicator.document_minhash_deduplicator import DocumentMinhashDeduplicator
    from datasets import load_dataset

    about = {"num_permutations": BANDS * ROWS, "num_bands": BANDS, "num_rows_per_band": ROWS, "jaccard_threshold": THRESHOLD}
    step = DocumentMinhashDeduplicator(tokenization="punctuation", window_size=5, **about)
    data = NestedDataset(load_dataset("parquet", data_files=file, split="train", cache_dir=str(folder / "cache")))
    hashed = data.map(step.compute_hash, num_proc=workers)
    kept, _ = step.process(hashed, 0)
    return sorted(set(data["id"]) - set(kept["id"]))


if __name__ == "__main__":
    name, file, workers, place = sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
    contestant = {"bloomery": bloomery, "datasketch": datasketch, "rensa": rensa, "text-dedup": text_dedup, "datatrove": datatrove,
                  "py-data-juicer": data_juicer}[name]  # fmt: skip
    few = Path(file).with_name("few") / "texts.parquet"
    for kind, one in (("rehearsal", str(few)), ("run", file)):
        (folder := place / kind).mkdir(parents=True)
        began, used = time.perf_counter(), sum(os.times()[:4])
        removed = contestant(one, workers, folder)
        seconds, busy = time.perf_counter() - began, sum(os.times()[:4]) - used
    print(json.dumps({"seconds": seconds, "busy": busy, "removed": removed}))
