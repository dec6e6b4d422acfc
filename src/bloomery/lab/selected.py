"""What claims about choosing documents measure of what was chosen, and of the students that were trained on it."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bloomery.lab.lab import Runs

NAMES = {"id": "id", "package": "package", "domain": "domain"}  # columns of a corpus, where it is read as a source
BYTES = {"vocab": 262, "sample": "2MB"}  # tokenize knobs of every arm: no merges are learned, so that no vocabulary fits its own text


def bits(scores: Runs, kind: str) -> list[float]:
    """Bits per byte over the held-out documents whose package begins with `kind`, of each run of an evaluate step; nan where training
    diverged."""
    found = []
    for run in scores:
        if run.diverged:
            found.append(math.nan)
            continue
        lines = run.artifact.path("items", "bits_per_byte.jsonl").read_text(encoding="utf-8").splitlines()
        parts = [row["parts"] for row in map(json.loads, lines) if row["group"].startswith(kind)]
        found.append(sum(part["bits"] for part in parts) / sum(part["bytes"] for part in parts))
    return found


def share(chosen: Runs, kinds: Collection[str]) -> list[float]:
    """Share of the bytes to train on that is of some kinds, of each corpus."""
    import pyarrow.parquet as pq

    found = []
    for run in chosen:
        table = pq.read_table(run.artifact.path("train.parquet"), columns=["domain", "bytes"]).to_pydict()
        kept = sum(size for name, size in zip(table["domain"], table["bytes"], strict=True) if name in kinds)
        found.append(kept / sum(table["bytes"]))
    return found
