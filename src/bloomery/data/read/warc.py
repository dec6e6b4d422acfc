"""WARC files of web crawls, plain, .gz or .zst: one document per response, resource or conversion record that holds text.

HTML becomes its main text and PDF its text layer, each in a guarded process; plain text is decoded. Requests, metadata and revisits
are no documents. warcio parses the records; this module bounds what it may read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from bloomery.core.errors import BadInput
from bloomery.data.documents import Broken, Task, Unread
from bloomery.data.read import files, html, places, text
from bloomery.data.read.html import demand, release
from bloomery.data.read.pdf import MARKUP as IMAGES
from bloomery.data.read.pdf import portable
from bloomery.data.sources import Source, fingerprint_files
from bloomery.seams import Doc

HEADERS = 1 << 20  # bytes of a record's headers
BLOCK = 1 << 16
CHARSET = re.compile(r"charset\s{0,8}=\s{0,8}[\"']?([A-Za-z0-9_:.-]{1,40})", re.IGNORECASE)
PAGES = ("text/html", "application/xhtml+xml")
PDF = "application/pdf"
ENCODINGS = ("", "identity", "gzip", "x-gzip", "deflate")  # others have no bound on how much a block unpacks to


class Unbounded(Exception):
    """Headers go on and on."""


class Metered:
    """The bytes of a file for warcio, which may read so many of them until it is allowed more."""

    def __init__(self, handle: Any) -> None:
        self.handle, self.left = handle, HEADERS

    def read(self, count: int = BLOCK) -> bytes:
        if self.left <= 0:
            raise Unbounded
        data = self.handle.read(min(count, BLOCK) if count > 0 else BLOCK)
        self.left -= len(data)
        return data

    def tell(self) -> int:
        return 0


class Lines:
    """The lines of a record for the parser of its HTTP headers; over the bound it is told that they end."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.left, self.over = stream, HEADERS, False

    def readline(self) -> bytes:
        line = self.stream.readline(self.left) if self.left else b""
        self.left -= len(line)
        self.over = self.over or not self.left
        return b"" if self.over else line


def check(source: Source) -> None:
    """Refuse what is no WARC file, and missing libraries."""
    for library in ("warcio", "trafilatura"):
        demand(library, "web", source.address)
    demand("pypdfium2", "pdf", source.address)
    text.check_heads(source)
    for path, _ in source.files:
        if source.options.broken == "stop" and not files.head_of(path).startswith(b"WARC/"):
            raise BadInput(f"{path} is no WARC file: it does not begin with WARC/; remove it from the sources")


def size(source: Source) -> int:
    """Bytes of the files, which is more than the text that they hold."""
    return sum(places.size_of(path) for path, _ in source.files)


def fingerprint(source: Source) -> dict[str, Any]:
    """That of the files, and which releases of the parsers read them."""
    return {**fingerprint_files(source), "parser": ", ".join(map(release, ("warcio", "trafilatura", "pypdfium2")))}


def tasks(source: Source, limit: int) -> Iterator[Task]:
    """One task per file: where its records begin is known only by reading it."""
    for path, name in source.files:
        yield Task("warc", source.address, (path, name), source.options, limit)


def read(task: Task) -> Iterator[Doc | Broken]:
    """Documents of one file; `file#record` is the path of each, all records counted from 1, its host the package."""
    from warcio.archiveiterator import ArchiveIterator
    from warcio.exceptions import ArchiveLoadFailed

    path, name = task.where
    number = 0
    with files.open_bytes(path) as handle:
        metered = Metered(handle)
        try:
            for number, record in enumerate(ArchiveIterator(metered, no_record_parse=True), 1):
                metered.left = 1 << 62  # what the record says that it holds is read in blocks
                if record.rec_type in ("response", "resource", "conversion"):
                    yield _document(task, record, f"{name}#{number}")
                while record.raw_stream.read(BLOCK):
                    pass
                metered.left = HEADERS
        except Unbounded:
            yield Broken("malformed", f"{name}#{number + 1}", 0, f"headers of more than {HEADERS} bytes; the rest of the file is not read")
        except ArchiveLoadFailed as error:
            yield Broken("malformed", f"{name}#{number + 1}", 0, f"no WARC record: {error}; the rest of the file is not read"[:200])


def _document(task: Task, record: Any, place: str) -> Doc | Broken:
    """A record as a document, or why it is none."""
    url = record.rec_headers.get_header("WARC-Target-URI") or ""
    host, length = host_of(url) or place, int(record.length or 0)
    most, data = 0, b""
    try:
        said = _kind(record, url)
        kind = said.partition(";")[0].strip().lower()
        if kind not in PAGES and kind != PDF and not kind.startswith("text/"):
            raise Unread("other kind", f"{kind or 'no content type'} {url}")
        most = (IMAGES if kind == PDF else html.MARKUP) * task.limit
        data = _body(record, most)
        if len(data) > most:
            raise Unread("too long", f"more than {most} bytes once unpacked {url}")
    except Unread as why:
        return Broken(why.reason, place, length, why.note[:200], host)
    except Exception as error:  # warcio and zlib each have their own
        return Broken("malformed", place, length, f"{type(error).__name__}: {error}"[:200], host)
    charset = CHARSET.search(said)
    about = {"url": url, "charset": charset[1] if charset else ""}
    if kind in PAGES:
        found = html.page(task, data, place, host, about)
    elif kind == PDF:
        found = portable(task, data, place, host, about)
    else:
        found = text.decoded(task, data, place, host)
    if isinstance(found, Doc):
        if "date" in found.meta:
            found.meta["published"] = found.meta["date"]
        found.meta |= {"url": url, "date": record.rec_headers.get_header("WARC-Date") or ""}
    return found


def _kind(record: Any, url: str) -> str:
    """The content type of a record, after its HTTP headers, where it has some, are read. Raises Unread."""
    from warcio.statusandheaders import StatusAndHeadersParser

    said = record.rec_headers.get_header("Content-Type") or ""
    if record.rec_type != "response" or not said.startswith("application/http"):
        return said
    lines = Lines(record.raw_stream)
    record.http_headers = StatusAndHeadersParser(["HTTP/"], verify=True).parse(lines)
    if lines.over:
        raise Unread("malformed", f"HTTP headers of more than {HEADERS} bytes {url}")
    said = record.http_headers.statusline.split() or [""]  # `HTTP/1.1 200 OK`, its protocol taken off where warcio knows the version
    status = next((word for word in said[:2] if word.isdecimal()), said[0])
    if status != "200":
        raise Unread("HTTP status", f"{status[:20]} {url}")
    packed = (record.http_headers.get_header("Content-Encoding") or "").strip().lower()
    if packed not in ENCODINGS:
        raise Unread("other encoding", f"content encoding {packed[:20]} {url}")
    return record.http_headers.get_header("Content-Type") or ""


def _body(record: Any, most: int) -> bytes:
    """The content without its transfer and content encodings; at most one block more than `most` bytes are held."""
    stream, blocks, held = record.content_stream(), [], 0
    while held <= most and (block := stream.read(BLOCK)):
        blocks.append(block)
        held += len(block)
    return b"".join(blocks)


def host_of(url: str) -> str:
    """The host of a URL, "" where there is none."""
    try:
        return urlsplit(url.strip("<>")).hostname or ""
    except ValueError:
        return ""
