"""PDF files: the text layer of all pages, by PDFium in a guarded process. Nothing is recognised from images."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from bloomery.data.documents import Broken, Task, Unread
from bloomery.data.read import text
from bloomery.data.read.html import NOTHING, demand, parsed, release
from bloomery.data.sources import Source, fingerprint_files
from bloomery.seams import Doc

PARSER = __name__
MARKUP = 32  # bytes of a file for one byte of its text, at most: images lie in it
DATE = re.compile(r"D:(\d{4})(\d\d)?(\d\d)?")
size, tasks = text.size, text.tasks


def check(source: Source) -> None:
    """Refuse files of which nothing can be read, and a missing library."""
    demand("pypdfium2", "pdf", source.address)
    text.check_heads(source)


def fingerprint(source: Source) -> dict[str, Any]:
    """That of the files, and which release of the parser reads them."""
    return {**fingerprint_files(source), "parser": release("pypdfium2")}


def read(task: Task) -> Iterator[Doc | Broken]:
    """One document per file, its pages parted by an empty line; meta has title, date (of creation) and pages."""
    for path, name in task.where:
        yield text.opened(task, path, name, text.package_of(name), MARKUP * task.limit, portable)


def portable(task: Task, data: bytes, name: str, package: str, about: Mapping[str, Any] = NOTHING) -> Doc | Broken:
    """A PDF as a document."""
    return parsed(task, PARSER, data, name, package, {**about, "most": task.limit})


# ---- in the guarded process ---------------------------------------------------------------------------------------------


def begin() -> None:
    """Load the library before the limits hold."""
    import pypdfium2  # noqa: F401


def parse(data: bytes, about: Mapping[str, Any]) -> dict[str, Any]:
    """Text, title and date. Raises Unread for what is no PDF, encrypted, without a text layer, or too long."""
    import pypdfium2

    try:
        opened = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        raise Unread("encrypted" if "password" in str(error).lower() else "malformed", f"no PDF that can be opened: {error}") from None
    pages, held = [], 0
    for number in range(len(opened)):
        sheet = opened[number]
        layer = sheet.get_textpage()
        pages.append(mended(layer.get_text_bounded()))
        held += len(pages[-1])
        layer.close()
        sheet.close()
        if held > about["most"]:
            raise Unread("too long", f"more than max_document allows after {number + 1} of {len(opened)} pages")
    whole = "\n\n".join(filter(None, pages))
    if not whole.strip():
        raise Unread("no text", f"{len(opened)} pages without a text layer")
    known = opened.get_metadata_dict()
    date = DATE.match(known.get("CreationDate", ""))
    written = "-".join(filter(None, date.groups())) if date else ""
    return {"text": whole, "meta": {"title": known.get("Title", ""), "date": written, "url": about.get("url", ""), "pages": len(opened)}}


def mended(page: str) -> str:
    """Plain line ends, and words joined that PDFium says were parted at the end of a line."""
    joined = re.sub("[\ufffe\x02]\r?\n?", "", page)
    return joined.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "").strip()
