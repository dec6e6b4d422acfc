"""What finding duplicates needs of every document: the key of its text, and its MinHash signature."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bloomery.data.minhash import PERMUTATIONS, signatures
from bloomery.seams import Doc


def exact_key(text: str) -> bytes:
    """SHA-256 of the text after NFC, with every run of white space made one space."""
    return hashlib.sha256(" ".join(unicodedata.normalize("NFC", text).split()).encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True)
class Keys:
    """The hash that exact duplicates share."""

    name = "keys"

    def columns(self, docs: Sequence[Doc], poisoned: Mapping[int, str], mark: Callable[[int], None] | None) -> dict[str, Any]:
        """`_key`, 32 bytes."""
        import pyarrow as pa

        return {"_key": pa.array([exact_key(doc.text) for doc in docs], pa.binary(32))}


@dataclass(frozen=True)
class Signatures:
    """The signature that near duplicates are found by."""

    name = "signatures"

    def columns(self, docs: Sequence[Doc], poisoned: Mapping[int, str], mark: Callable[[int], None] | None) -> dict[str, Any]:
        """`_signature`, 128 uint32; null for a text of fewer than five words."""
        import pyarrow as pa

        signature, counts = signatures([doc.text for doc in docs])
        rows = [row.tobytes() if n else None for row, n in zip(signature, counts, strict=True)]
        return {"_signature": pa.array(rows, pa.binary(4 * PERMUTATIONS))}
