"""What a finished training run tells of itself: hashes of weights, the typical speed, the audit, texts that its tokens lose."""

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
    """Every parameter asked to train has had a gradient and moved, no other has: one check each. Those of experts that too few tokens chose
    are told and no fault."""
    audit = audit or {}
    idle = f", {len(audit['idle'])} in experts that too few tokens chose left out" if audit.get("idle") else ""
    for kind, fault in AUDIT.items():
        names = audit.get(kind, [])
        job.check(fault, len(names), 0, note=", ".join(names[:5]) or f"of {audit.get('trained', 0)}{idle if kind != 'moved' else ''}")


def lossy(tokenizer: Path, shards: Any, most: int = 32) -> int:
    """How many of the first texts, and of some awkward ones, do not come back from decode(encode(x))."""
    from tokenizers import Tokenizer

    known = Tokenizer.from_file(str(tokenizer))
    texts = [known.decode(shards.document(i).tolist(), skip_special_tokens=True) for i in range(min(most, len(shards)))]
    texts += ["", "\tdef f(x):\r\n        return x  \n\n", "naïve Größe 漢字 🙂 e\u0301", "a  b   c\u00a0d", "12345678901234567890"]
    return sum(known.decode(known.encode(text, add_special_tokens=False).ids, skip_special_tokens=False) != text for text in texts)
