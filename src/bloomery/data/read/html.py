"""HTML files: the main text of a page, without menus, footers and scripts, by trafilatura in a guarded process."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.data.documents import Broken, Options, Task, Unread, make
from bloomery.data.read import guard, text
from bloomery.data.sizes import parse_size
from bloomery.data.sources import Source, fingerprint_files
from bloomery.seams import Doc

PARSER = __name__
NOTHING: Mapping[str, Any] = MappingProxyType({})  # is known of a file besides its bytes
MARKUP = 8  # bytes of a page for one byte of its text, at most
DECLARED = re.compile(rb"charset\s{0,8}=\s{0,8}[\"']?([A-Za-z0-9_:.-]{1,40})", re.IGNORECASE)
size, tasks = text.size, text.tasks


def check(source: Source) -> None:
    """Refuse files of which nothing can be read, and a missing library."""
    demand("trafilatura", "web", source.address)
    text.check_heads(source)


def demand(library: str, extra: str, address: str) -> None:
    """BadInput where a library is missing."""
    if find_spec(library) is None:
        raise BadInput(f"sources: {address} needs the `{library}` library; run `pip install bloomery[{extra}]`")


def fingerprint(source: Source) -> dict[str, Any]:
    """That of the files, and which release of the parser reads them."""
    return {**fingerprint_files(source), "parser": release("trafilatura")}


def release(library: str) -> str:
    """Name and version of an installed library."""
    try:
        return f"{library} {version(library)}"
    except PackageNotFoundError:
        return f"{library}, missing"


def read(task: Task) -> Iterator[Doc | Broken]:
    """One document per file."""
    for path, name in task.where:
        yield text.opened(task, path, name, text.package_of(name), MARKUP * task.limit, page)


def page(task: Task, data: bytes, name: str, package: str, about: Mapping[str, Any] = NOTHING) -> Doc | Broken:
    """A page as a document: `about` may say its `charset` and `url`. What the page says of itself is title, date and url."""
    return parsed(task, PARSER, data, name, package, about)


def parsed(task: Task, parser: str, data: bytes, name: str, package: str, about: Mapping[str, Any]) -> Doc | Broken:
    """What a guarded parser makes of a document, with what it found out besides."""
    try:
        found = ask(parser, data, about, task.options)
    except Unread as why:
        return Broken(why.reason, name, len(data), why.note, package)
    doc = make(task, name, found["text"], {}, package)
    if isinstance(doc, Doc):
        doc.meta |= {key: value for key, value in found["meta"].items() if value}
    return doc


def ask(parser: str, data: bytes, about: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """The reply of a parser within the limits of a source. Raises Unread."""
    return guard.parse(parser, data, about, options.seconds, parse_size(options.memory, "memory"))


# ---- in the guarded process ---------------------------------------------------------------------------------------------


def begin() -> None:
    """Load the library before the limits hold."""
    import trafilatura  # noqa: F401


def parse(data: bytes, about: Mapping[str, Any]) -> dict[str, Any]:
    """The main text, title, date and URL of a page. Raises Unread where it has no main text."""
    import trafilatura

    if b"\0" in data[:1024] and not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Unread("binary", "no HTML")
    found = trafilatura.bare_extraction(decode(data, about.get("charset", "")), url=about.get("url") or None, with_metadata=True)
    if found is None or not (found.text or "").strip():
        raise Unread("no main text", f"of {len(data)} bytes of HTML")
    return {"text": found.text, "meta": {"title": found.title, "date": found.date, "url": about.get("url") or found.url}}


def decode(data: bytes, charset: str) -> str | bytes:
    """The page as text where its byte order mark, its server, its head or UTF-8 say how; else its bytes, for the library to guess."""
    for mark, name in ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if data.startswith(mark):
            return data.decode(name, "replace")
    declared = DECLARED.search(data[:2048])
    for name in (charset, declared[1].decode("ascii") if declared else "", "utf-8"):
        try:
            if name:
                return data.decode("cp1252" if name.lower() in ("iso-8859-1", "latin-1", "latin1") else name)
        except (LookupError, UnicodeDecodeError):
            continue
    return data
