"""What the pages of a Parquet column say that they unpack to, read from their headers before any is unpacked.

The footer's sizes bind nobody: Arrow allocates what a page's own header says. Headers are Thrift structs in the compact protocol
(Apache Parquet format, `PageHeader`: 1 type, 2 uncompressed_page_size, 3 compressed_page_size).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from bloomery.core.errors import BadInput

DICTIONARY = 2  # PageType of a dictionary
WINDOW, LONGEST = 1 << 12, 1 << 24  # bytes of a header that are read at first, and at most (it may hold the smallest and largest value)
DEEPEST = 16  # structs within each other


class Thrift:
    """A reader of the compact protocol over some bytes. Raises IndexError where they end too early, ValueError for what is none."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def varint(self) -> int:
        value = shift = 0
        while True:
            one = self.byte()
            value |= (one & 127) << shift
            if one < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number of more than 64 bits")

    def number(self) -> int:
        coded = self.varint()
        return (coded >> 1) ^ -(coded & 1)

    def skip(self, kind: int, depth: int = 0) -> None:
        """Pass over a value of a kind that nobody asks for."""
        if depth > DEEPEST:
            raise ValueError("structs nested too deep")
        if kind == 3:
            self.at += 1
        elif kind in (4, 5, 6):
            self.varint()
        elif kind == 7:
            self.at += 8
        elif kind == 8:
            length = self.varint()
            self.at += length
        elif kind in (9, 10):
            self._skip_list(depth)
        elif kind == 12:
            for _, inner in self.fields():
                self.skip(inner, depth + 1)
        elif kind not in (1, 2):
            raise ValueError(f"a field of kind {kind}")
        if self.at > len(self.data):
            raise IndexError

    def _skip_list(self, depth: int) -> None:
        head = self.byte()
        count = head >> 4 if head >> 4 != 15 else self.varint()
        for _ in range(count):
            if head & 15 in (1, 2):
                self.at += 1
            else:
                self.skip(head & 15, depth + 1)
            if self.at > len(self.data):
                raise IndexError

    def fields(self) -> Iterator[tuple[int, int]]:
        """(number, kind) of each field of a struct; whoever asks reads or skips its value before the next."""
        number = 0
        while head := self.byte():
            number = number + (head >> 4) if head >> 4 else self.number()
            yield number, head & 15


def header(data: bytes) -> tuple[int, int, int, int]:
    """(bytes of the header, page type, bytes unpacked, bytes packed)."""
    thrift, seen = Thrift(data), {}
    for number, kind in thrift.fields():
        if number <= 3 and kind == 5:
            seen[number] = thrift.number()
        else:
            thrift.skip(kind)
    if set(seen) != {1, 2, 3} or min(seen.values()) < 0:
        raise ValueError("no page header")
    return thrift.at, seen[1], seen[2], seen[3]


def pages(handle: BinaryIO, start: int, length: int, path: str) -> Iterator[tuple[int, int, int]]:
    """(page type, bytes unpacked, bytes packed) of every page of a column chunk. Raises BadInput where it is damaged."""
    at = start
    while at < start + length:
        window = WINDOW
        while True:
            handle.seek(at)
            data = handle.read(min(window, start + length - at))
            try:
                size, kind, unpacked, packed = header(data)
                break
            except IndexError:
                if len(data) < window or window >= LONGEST:
                    raise BadInput(f"{path} is damaged (a page header at byte {at} has no end); write or fetch it again") from None
                window *= 16
            except ValueError as error:
                raise BadInput(f"{path} is damaged (byte {at}: {error}); write or fetch it again") from None
        yield kind, unpacked, packed
        at += size + packed
