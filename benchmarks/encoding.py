"""Encoding speed beside tokenizers and tiktoken: megabytes of text per second, one byte-level BPE vocabulary, every contestant in turn.

    make peers-encoding && python benchmarks/encoding.py [--quick] [--peers tokenizers,tiktoken] [--workers 1,2] [--vocab 16384]

One JSON line per contest: {"contest", "unit", "ours", "peer", "peer_value", "ratio"}; a ratio above 1 means bloomery is ahead. The text is
Python source of this machine. Each round times all contestants once and the median round counts; a peer whose ids differ from the
library's own is said to do so. bloomery gives numpy arrays, as shards take them, the others lists. With
`--cpu` processor time is counted instead, for a machine that others use.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

from bloomery.data.encoder import in_order
from bloomery.data.pretokens import GPT2
from bloomery.data.token_bytes import pieces
from bloomery.data.tokenizer import Tokenizer, learn

PEERS = ("tokenizers", "tiktoken")
BLOCK = 1 << 20  # characters of a batch
Encode = Callable[[list[list[str]], int], list]  # batches and threads -> ids, an entry for each text or batch


def texts(size: int) -> list[str]:
    """About `size` bytes of Python source: the standard library, then what is installed, in a fixed order."""
    found, total = [], 0
    for folder in (sysconfig.get_path("stdlib"), sysconfig.get_path("platlib")):
        for path in sorted(Path(folder).rglob("*.py")):
            if total >= size:
                return found
            try:
                text = path.read_text(encoding="utf-8")
            except (UnicodeDecodeError, OSError):
                continue
            found.append(text)
            total += len(text.encode())
    return found


def blocks(documents: list[str]) -> list[list[str]]:
    made: list[list[str]] = [[]]
    for text in documents:
        made[-1].append(text)
        if sum(map(len, made[-1])) >= BLOCK:
            made.append([])
    return [one for one in made if one]


def ours(tokenizer: Tokenizer) -> Encode:
    return lambda batches, workers: [ids for ids, _ in in_order(tokenizer.encode_flat, batches, workers)]


def library(tokenizer: Tokenizer) -> Encode:
    def encode(batches: list[list[str]], workers: int) -> list[list[int]]:
        os.environ["TOKENIZERS_PARALLELISM"] = "true" if workers > 1 else "false"
        return [one.ids for batch in batches for one in tokenizer.inner.encode_batch_fast(batch, add_special_tokens=False)]

    return encode


def tiktoken(tokenizer: Tokenizer) -> Encode:
    from tiktoken import Encoding

    ranks = {piece: i for i, piece in enumerate(pieces(tokenizer.inner)) if piece}
    theirs = Encoding("same", pat_str=GPT2, mergeable_ranks=ranks, special_tokens={})

    return lambda batches, workers: [one for batch in batches for one in theirs.encode_ordinary_batch(batch, num_threads=workers)]


def contestants(tokenizer: Tokenizer, peers: list[str]) -> dict[str, Encode]:
    found: dict[str, Encode] = {"bloomery": ours(tokenizer)}
    for peer in peers:
        try:
            found[peer] = library(tokenizer) if peer == "tokenizers" else tiktoken(tokenizer)
        except Exception as wrong:
            print(f"{peer} skipped: {type(wrong).__name__}: {wrong}", file=sys.stderr)
    return found


def compared(runners: dict[str, Encode], tokenizer: Tokenizer, batches: list[list[str]]) -> None:
    """Whether all give the ids of the library, token by token; bloomery has to."""
    wanted = [i for batch in batches for one in tokenizer.inner.encode_batch(batch, add_special_tokens=False) for i in one.ids]
    for name, encode in runners.items():
        found = [int(i) for part in encode(batches, 1) for i in part]
        same = found == wanted
        print(f"{name}: {len(found):,} ids, {'those' if same else 'not those'} of the library", file=sys.stderr)
        if not same and name == "bloomery":
            sys.exit("bloomery's ids differ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="8 MB and three rounds instead of 50 MB and five; within a minute")
    parser.add_argument("--peers", default="", help="comma-separated: " + ", ".join(PEERS))
    parser.add_argument("--workers", default="1,2", help="comma-separated numbers of threads")
    parser.add_argument("--vocab", type=int, default=16384)
    parser.add_argument("--cpu", action="store_true", help="count processor seconds over all threads, not those of the clock")
    given = parser.parse_args()
    counts = [int(count) for count in given.workers.split(",")]
    peers = [peer for peer in given.peers.split(",") if peer] or list(PEERS)
    unknown = [peer for peer in peers if peer not in PEERS]
    if unknown:
        parser.error(f"unknown peer {unknown[0]}; known: {', '.join(PEERS)}")
    os.environ["RAYON_NUM_THREADS"] = str(max(counts))
    clock = time.process_time if given.cpu else time.perf_counter
    documents = texts(8_000_000 if given.quick else 50_000_000)
    size, batches = sum(len(text.encode()) for text in documents), blocks(documents)
    tokenizer = learn(documents[: len(documents) // (2 if given.quick else 8)], given.vocab)
    runners = contestants(tokenizer, peers)
    compared(runners, tokenizer, batches[:8])
    for workers in counts:
        seconds: dict[str, list[float]] = {name: [] for name in runners}
        for _ in range(3 if given.quick else 5):
            for name, encode in runners.items():
                began = clock()
                encode(batches, workers)
                seconds[name].append(clock() - began)
        speed = {name: size / 1e6 / statistics.median(times) for name, times in seconds.items()}
        mine = speed.pop("bloomery")
        unit = "MB/s of processor time" if given.cpu else "MB/s"
        for peer, value in speed.items():
            line = {"contest": f"encode-{workers}-workers", "unit": unit, "ours": round(mine, 2), "peer": peer}
            print(json.dumps({**line, "peer_value": round(value, 2), "ratio": round(mine / value, 3)}), flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{size / 1e6:.1f} MB of text, {tokenizer.vocab} tokens; peak memory of all together {peak:.0f} MiB", file=sys.stderr)


if __name__ == "__main__":
    main()
