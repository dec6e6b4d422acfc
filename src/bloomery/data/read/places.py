"""Where bytes lie: paths of this machine, and every address that fsspec opens (s3://, gs://, https://, memory://, zip://A::B).

Credentials come from the environment or from fsspec's own configuration, never from an address: an address is kept on cards.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, urlsplit

from bloomery.core.errors import BadInput

BLOCK = 1 << 20
NEEDS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs", "http": "aiohttp", "https": "aiohttp"}
STATED = ("ETag", "etag", "md5Hash", "content_md5")  # what an object store says of an object's content
STORES = ("s3", "s3a", "gs", "gcs", "abfs", "az", "adl")
SECRET = re.compile(r"(?i)(sig|signature|token|secret|password|passwd|credential|api_?key|access_?key|awsaccesskeyid)")
USER = re.compile(r"//[^/@\s'\"]*@")
QUERY = re.compile(r"(?<=[^\s'\"<>?])\?[^\s'\"<>]+")


def is_remote(place: str) -> bool:
    """Whether fsspec opens it, rather than this machine's file system."""
    return "://" in place or "::" in place


def file_name(place: str) -> str:
    """The place without what follows the path in an address, for its ending."""
    return place.split("::")[0].split("?")[0] if is_remote(place) else place


def quiet(said: object) -> str:
    """The first line of a message, without users, passwords and queries of addresses."""
    lines = str(said).splitlines() or [type(said).__name__]
    return QUERY.sub("?…", USER.sub("//…@", lines[0]))[:200]


def demand_no_secret(address: str) -> None:
    """Refuse an address that holds a password or a key: it would be stored on the card of whatever is made from it."""
    for part in address.split("::"):
        if USER.search(part) or any(SECRET.search(name) for name, _ in parse_qsl(urlsplit(part).query, keep_blank_values=True)):
            raise BadInput(
                f"sources: {quiet(address)} holds a user or a key; put credentials into the environment or fsspec's configuration"
            )


@contextmanager
def reached(address: str) -> Iterator[None]:
    """Inside, whatever a remote file system raises becomes one sentence that tells no secret."""
    try:
        yield
    except BadInput:
        raise
    except ImportError as error:
        needed = NEEDS.get(address.split(":")[0], "")
        mend = f"run `pip install {needed}`" if needed else "install what it names"
        raise BadInput(f"sources: {quiet(address)} needs a further library ({quiet(error)}); {mend}") from None
    except FileNotFoundError:
        raise BadInput(f"sources: {quiet(address)} does not exist; check the address") from None
    except Exception as error:  # every file system has its own
        raise BadInput(f"sources: {quiet(address)} cannot be reached ({quiet(error)}); check address, network and credentials") from None


def _opened(address: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    return url_to_fs(address)


def find(address: str) -> list[tuple[str, str]]:
    """The files behind a remote address or pattern (`*`, `**`, `[...]`), sorted; with each its name below where the pattern starts."""
    demand_no_secret(address)
    with reached(address):
        fs, path = _opened(address)
        rest = address.partition("::")[2]
        if not (set("*[") & set(path)):
            if fs.isdir(path) and not fs.isfile(path):
                raise BadInput(f"sources: {address} is a folder; name the files, for example {address.rstrip('/')}/**/*.jsonl")
            fs.info(path)
            return [(address, PurePosixPath(file_name(address)).name)]
        found = sorted(name for name in fs.glob(path) if fs.isfile(name))
        if not found:
            raise BadInput(f"sources: {quiet(address)} matches no file; check the pattern")
        places = [f"{address.split('://')[0]}://{name}::{rest}" if rest else fs.unstrip_protocol(name) for name in found]
    parts = _below(address).split("/")
    fixed = "".join(f"{part}/" for part in parts[: next(k for k, part in enumerate(parts) if set("*[") & set(part))])
    return [(place, _below(file_name(place)).removeprefix(fixed)) for place in places]


def _below(address: str) -> str:
    """The path of an address."""
    return address.split("::")[0].partition("://")[2].lstrip("/")


def stamp(place: str) -> tuple[int, ...]:
    """What is another number as soon as a file of this machine is written again; nothing of a file elsewhere."""
    if is_remote(place):
        return ()
    found = os.stat(place)
    return found.st_size, found.st_mtime_ns


def size_of(place: str) -> int:
    """Bytes as stored; 0 where a server does not say."""
    if not is_remote(place):
        return os.path.getsize(place)
    with reached(place):
        fs, path = _opened(place)
        return int(fs.size(path) or 0)


def open_plain(place: str) -> BinaryIO:
    """The stored bytes as a buffered stream whose `readline` takes a limit."""
    if not is_remote(place):
        return open(place, "rb", buffering=BLOCK)
    with reached(place):
        fs, path = _opened(place)
        handle = fs.open(path, "rb")
        try:  # a web server without ranges shows it only when asked for one, and can then only be read from the begin
            if place.startswith(("http://", "https://")):
                handle.seek(max(0, (handle.size or 1) - 1))
                handle.read(1)
                handle.seek(0)
            return io.BufferedReader(_Remote(fs, handle, place, True), BLOCK)
        except ValueError:
            handle.close()
            return io.BufferedReader(_Remote(fs, fs.open(path, "rb", block_size=0), place, False), BLOCK)


class _Remote(io.RawIOBase):
    """A file of fsspec as a raw Python stream; it holds its file system, for an archive is closed with the last reference to it."""

    def __init__(self, fs: Any, handle: Any, place: str, moves: bool) -> None:
        self.fs = fs
        self.handle, self.place, self.moves = handle, place, moves

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self.moves

    def seek(self, offset: int, whence: int = 0) -> int:
        if not self.moves:
            raise io.UnsupportedOperation("seek")
        return self.handle.seek(offset, whence)

    def tell(self) -> int:
        return self.handle.tell()

    def readinto(self, buffer: Any) -> int:
        with reached(self.place):
            data = self.handle.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self.handle.close()
        super().close()


def content(place: str) -> tuple[str, int]:
    """What identifies a file's content, and its bytes: a SHA-256, or what an object store itself says of the content."""
    if is_remote(place) and place.split(":")[0] in STORES:
        with reached(place):
            fs, path = _opened(place)
            about = fs.info(path)
        stated = next((f"{name} {about[name]}" for name in STATED if about.get(name)), "")
        if stated:
            return stated, int(about.get("size") or 0)
    digest, total = hashlib.sha256(), 0
    with open_plain(place) as handle:
        while block := handle.read(BLOCK):
            digest.update(block)
            total += len(block)
    return digest.hexdigest(), total
