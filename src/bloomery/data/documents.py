"""What passes between sources, readers and the curate stage."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

from bloomery.core.errors import BadInput
from bloomery.seams import Doc


@dataclass(frozen=True)
class Options:
    """How one source of a recipe is read; the field names are the options that a recipe may give."""

    text: str = "text"  # column that holds the text
    id: str = ""  # column that identifies a document; empty = a hash of place and content
    path: str = ""  # column with the path of each document; empty = its place (file:line)
    package: str = ""  # column whose value groups documents; empty = folder, or every document alone; "path": every file alone
    domain: str = ""  # column with the kind of each document, or a fixed kind where no such column exists
    licence: str = ""  # column with the licence, or a fixed licence where no such column exists
    encoding: str = "utf-8"  # of text, CSV and JSONL files
    format: str = ""  # jsonl, parquet, arrow, csv, text, markdown, html, warc, pdf or tree; empty = by the ending of the file
    broken: Literal["stop", "drop"] = "stop"  # a file that cannot be read, to its end or at all: stop, or drop it with a reason
    size: str = ""  # python:// only: bytes to sample
    share: float = 0.02  # python:// only: largest share of `size` from one package
    seed: int = 0  # python:// only: which sample
    split: str = "train"  # hf:// only
    config: str = ""  # hf:// only: name of the configuration
    limit: int = 0  # hf:// only: documents at most; 0 = all
    revision: str = ""  # git+ and hf:// only: commit, branch or tag; empty = HEAD, or the newest
    include: str = ""  # folders and git+ only: patterns such as "*.py, docs/*.md" of the files to read; empty = all text
    exclude: str = ""  # folders and git+ only: patterns of the files to leave out
    seconds: float = 20.0  # HTML and PDF only: CPU time that the parser may take for one document
    memory: str = "2GB"  # HTML and PDF only: memory that the parser may take


# of the machine (a full disk, no memory) or of what a method was given (a file that is not there): never the fault of a document, so never
# a reason to drop one
TROUBLE = (MemoryError, OSError, BadInput)
COLUMNS = ("text", "id", "path", "package")  # the options that name a column which must be there


@dataclass(frozen=True)
class Task:
    """One chunk of reading, small enough for one worker and picklable; `where` belongs to the reader named `reader`."""

    reader: str  # a module of bloomery.data.read
    source: str  # the address as the recipe wrote it
    where: tuple[Any, ...]
    options: Options
    limit: int  # bytes: longer documents are reported as too long, without being held in memory


@dataclass(frozen=True)
class Broken:
    """A document that could not be read or was left out: a reason, its place and how many bytes it had."""

    reason: str
    path: str
    bytes: int
    note: str = ""
    package: str = ""
    licence: str = ""
    id: str = ""


class Unread(Exception):
    """Why a document cannot be read: a reason in few words, and what is known besides."""

    def __init__(self, reason: str, note: str = "") -> None:
        super().__init__(reason, note)
        self.reason, self.note = reason, note


def identify(source: str, path: str, data: bytes) -> str:
    """The id of a document: 16 hexadecimal digits of a SHA-256 over source, place and content."""
    digest = hashlib.sha256(f"{source}\0{path}\0".encode("utf-8", "surrogatepass"))
    digest.update(data)
    return digest.hexdigest()[:16]


def make(task: Task, path: str, text: Any, row: dict[str, Any], package: str = "") -> Doc | Broken:
    """A document from a row of a table, or the reason why it is none. `path` is its place, `package` its default group."""
    options = task.options
    if not isinstance(text, str):
        kind = "null" if text is None else type(text).__name__
        return Broken("malformed", path, 0, f"column {options.text!r} holds {kind}, not text")
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        return Broken("malformed", path, len(text), f"text is not valid Unicode: lone surrogate at character {error.start}")
    if len(data) > task.limit:
        return Broken("too long", path, len(data), f"{len(data)} bytes, more than max_document allows")
    name = row.get(options.id) if options.id else None
    group = row.get(options.package) if options.package else None
    if options.package == "path" and not row:  # a file, not a row of a table
        group = path
    path = str(row[options.path]) if options.path and row.get(options.path) else path
    domain, licence = (row.get(said, "" if options.id == said else said) if said else "" for said in (options.domain, options.licence))
    meta = {
        "path": path,
        "package": str(group) if group is not None else package or path,
        "domain": str(domain or ""),
        "licence": str(licence or ""),
        "source": task.source,
        "bytes": len(data),
    }
    return Doc(str(name) if name is not None else identify(task.source, path, data), text, meta)
