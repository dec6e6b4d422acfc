"""What a finished training run tells of itself: hashes of weights, the typical speed, the verdict of the audit."""

from __future__ import annotations

import hashlib
import json
import statistics
from pathlib import Path
from typing import Any

AUDIT = {"silent": "parameters without a gradient", "unmoved": "parameters that never changed", "moved": "frozen parameters that changed"}


def hash_weights(weights: dict[str, Any]) -> str:
    """sha256 over names, shapes, types and bytes of tensors, in the order of names."""
    total = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        total.update(tensor.detach().contiguous().numpy().tobytes())
    return total.hexdigest()


def typical_speed(curve: Path) -> float | None:
    """Median of the steps' tokens per second; None where no step is left in the curve."""
    rows = [json.loads(line) for line in curve.read_text(encoding="utf-8").splitlines()]
    return statistics.median(row["tokens_per_second"] for row in rows) if rows else None


def check_audit(audit: dict[str, Any] | None, job: Any) -> None:
    """Every parameter asked to train has had a gradient and moved, no other has: one check each."""
    audit = audit or {}
    for kind, fault in AUDIT.items():
        names = audit.get(kind, [])
        job.check(fault, len(names), 0, note=", ".join(names[:5]) or f"of {audit.get('trained', 0)}")
