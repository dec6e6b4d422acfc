"""Bits of texts under general compressors: the yardsticks that a language model has to beat.

gzip: level 9 of Python's zlib with the gzip header and trailer (18 bytes), what `gzip -9 < file` gives; xz: preset 9 (not extreme)
with its container and CRC64, what `xz -9 < file` gives. Sizes are those of the compressed file, container included.
"""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bloomery.core.executors import Executor

COMPRESSORS = {
    "gzip": lambda data: gzip.compress(data, compresslevel=9, mtime=0),
    "xz": lambda data: lzma.compress(data, format=lzma.FORMAT_XZ, preset=9),
}
MADE_BY = {"gzip": "gzip -9", "xz": "xz -9"}  # the command with the same result, for tables


def bits(job: tuple[str, str]) -> int:
    """Bits of one (compressor name, text); top-level, so that an executor can send it to another process. KeyError: unknown name."""
    name, text = job
    return 8 * len(COMPRESSORS[name](text.encode()))


def each_alone(name: str, texts: Sequence[str], executor: Executor | None = None) -> list[int]:
    """Bits of every text compressed by itself, in order."""
    jobs = [(name, text) for text in texts]
    return list(executor.map(bits, jobs, label=MADE_BY[name]) if executor else map(bits, jobs))


def all_together(name: str, texts: Iterable[str]) -> int:
    """Bits of the texts joined in the given order, nothing between them: where one ends is not even coded, which favours the compressor."""
    return bits((name, "".join(texts)))
