"""Looks at the head of a file before any work, and opens plain or compressed files as bytes."""

from __future__ import annotations

import codecs
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any, BinaryIO

from bloomery.core.errors import BadInput
from bloomery.data.read import places

HEAD = 1 << 16
WIDE = ("utf-16", "utf-32", "utf_16", "utf_32", "utf16", "utf32")
PACKED = {".gz": "gzip", ".zst": "zstd"}
GROWTH = 1100  # times its size that a file may unpack to: more than any gzip stream can, while zstd knows no bound
SOUND = 1 << 28  # bytes that any file may unpack to


class Bomb(BadInput):
    """A compressed file gives far more than text can shrink to."""


def packing(path: str) -> str | None:
    """The compression that a file's ending names, or None."""
    return PACKED.get(os.path.splitext(places.file_name(path))[1].lower())


def open_bytes(path: str) -> BinaryIO:
    """The bytes of a plain, .gz or .zst file as a buffered stream. Reading on raises Bomb where it unpacks beyond GROWTH."""
    plain = places.open_plain(path)
    if kind := packing(path):
        import pyarrow as pa

        with sound(path, kind):
            stream = pa.CompressedInputStream(pa.PythonFile(plain, mode="r"), kind)
        return io.BufferedReader(_Unpacked(stream, plain, path, kind), HEAD)
    return plain


@contextmanager
def sound(path: str, kind: str) -> Iterator[None]:
    """Inside, what pyarrow says of damaged content becomes BadInput; errors of the system, which have a number, pass."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        if getattr(error, "errno", None):
            raise
        cause = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise BadInput(f"{path} is not a {kind} file, or is damaged ({cause}); write or fetch it again") from None


class _Unpacked(io.RawIOBase):
    """A decompressing stream of pyarrow as a raw Python stream, so that `readline` with a limit works on it."""

    def __init__(self, stream: Any, plain: BinaryIO, path: str, kind: str) -> None:
        self.stream, self.plain, self.path, self.kind, self.given = stream, plain, path, kind, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with sound(self.path, self.kind):
            data = self.stream.read(len(buffer))
        self.given += len(data)
        if self.given > SOUND and self.given > GROWTH * self.plain.tell():
            raise Bomb(f"{self.path} unpacks to more than {GROWTH} times its size; remove it from the sources")
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self.stream.close()
        self.plain.close()
        super().close()


def head_of(path: str) -> bytes:
    """The first 64 KiB, decompressed. Raises BadInput when the file is empty, unreadable or not compressed as its name says."""
    try:
        with open_bytes(path) as handle:
            head = handle.read(HEAD)
    except PermissionError:
        raise BadInput(f"{path} cannot be read: permission denied; change its permissions") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror or error}); check the file") from None
    if not head:
        raise BadInput(f"{path} is empty; remove it from the sources or fill it")
    return head


def check_text(path: str, head: bytes, encoding: str) -> None:
    """Refuse a file whose head is binary or not in `encoding`, with the likely mend."""
    for mark, name in ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if head.startswith(mark) and not encoding.lower().startswith(WIDE):
            raise BadInput(f"{path} is not {encoding.upper()}; say `encoding: {name}` for this source")
    _decode(path, [head, b""] if len(head) < HEAD else [head], encoding)


def check_whole_text(path: str, encoding: str) -> None:
    """The same for all of a file, in blocks."""
    check_text(path, head := head_of(path), encoding)
    if len(head) == HEAD:
        with open_bytes(path) as handle:
            _decode(path, chain(iter(partial(handle.read, 1 << 18), b""), [b""]), encoding)


def _decode(path: str, blocks: Iterable[bytes], encoding: str) -> None:
    """Refuse the first byte that `encoding` does not know and the first NUL; an empty block says that the file ends there."""
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    read = characters = 0
    for block in blocks:
        start = read - len(decoder.getstate()[0])  # the decoder holds back a character that the last block cut
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            if b"\0" in block:
                nul = read + block.index(0)
                raise BadInput(f"{path} is binary (a NUL byte at byte {nul}), not text; remove it from the sources") from None
            other = "latin-1" if encoding.lower().replace("_", "-") in ("utf-8", "utf8", "ascii", "utf-8-sig") else "utf-8"
            place = f"byte {start + error.start}"
            raise BadInput(f"{path} is not {encoding.upper()} ({place}); say `encoding: {other}` for this source") from None
        if "\0" in text:
            nul = characters + text.index("\0")
            raise BadInput(f"{path} is binary (a NUL character at character {nul}), not text; remove it from the sources")
        read, characters = read + len(block), characters + len(text)


def check_records(path: str, head: bytes, encoding: str) -> None:
    """The same for a file of one document a line, where a few bad lines are bad documents and not a bad file.

    It is the file that is at fault when more than a tenth of its first lines cannot be read, and more of them than can be
    among those that tell (ASCII reads the same in almost every encoding).
    """
    if encoding.lower().startswith(WIDE):
        check_text(path, head, encoding)
        return
    rows = [row for row in (head if len(head) < HEAD else head.rpartition(b"\n")[0] or head).split(b"\n") if row.strip()]
    good, bad = [], []
    for row in rows:
        try:
            (bad if "\0" in row.decode(encoding) else good).append(row)
        except UnicodeDecodeError:
            bad.append(row)
    if len(bad) > max(0.1 * len(rows), sum(not row.isascii() for row in good)):
        check_text(path, bad[0], encoding)


def lines(handle: BinaryIO, limit: int) -> Iterator[tuple[bytes, int]]:
    """Lines of a stream with their length in bytes; of a line over `limit` only the start is kept, the rest is skipped."""
    while line := handle.readline(limit + 1):
        length = len(line)
        if length > limit and not line.endswith(b"\n"):
            while rest := handle.readline(1 << 20):
                length += len(rest)
                if rest.endswith(b"\n"):
                    break
            line = line[:200]
        yield line, length
