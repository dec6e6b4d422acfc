"""Evaluation items looked for in a corpus, which is read once and held a few megabytes at a time; what has none is written where asked."""

from __future__ import annotations

import contextlib
import heapq
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.core.errors import BadInput, Interrupted
from bloomery.data.contamination import Excerpts, Rules, Search
from bloomery.lab.corpora import Part
from bloomery.lab.exams import Exams

if TYPE_CHECKING:
    from bloomery.core.log import Bar

TOLD = 60  # matches that are kept for showing
WHOLE = 2000  # characters of an item that are told as they are


@dataclass
class Found:
    """What was looked for and what came of it. `shown` are some of all `matches`: one of every item first, that of which most was found.
    `sets` has, for each evaluation set, how many items it has, how many were looked for and how many were found."""

    rules: Rules
    sets: dict[str, dict[str, int]]
    documents: int = 0
    bytes: int = 0
    leaking: int = 0
    matches: int = 0
    unread: Counter[str] = field(default_factory=Counter)
    shown: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    written: str = ""

    def summary(self) -> dict[str, Any]:
        """The figures as JSON has them."""
        counts = {name: getattr(self, name) for name in ("documents", "bytes", "leaking", "matches", "left_out", "written")}
        return {"rules": asdict(self.rules), "sets": self.sets, **counts, "unread": dict(self.unread)}


def search(
    exams: Exams, rules: Rules, parts: Sequence[Part], to: Path | None = None,
    told: Callable[[dict[str, Any]], None] | None = None, workers: int = 1, bar: Bar | None = None,
) -> Found:  # fmt: skip
    """Look through all parts; `told` gets every match as it is found, `to` is a new folder for the documents without any.

    BadInput where no item can be looked for, and where `to` is there already and holds something.
    """
    sought = Search(exams.items, rules)
    if not sought.looked.any():
        raise BadInput(f"--against: no part of any item has {rules.words} words of its own, so none can be told from chance; lower --words")
    found, seen, best = Found(rules, _sets(sought), left_out=exams.left_out), set[int](), _Best()
    with _written(to) as folder:
        lines = open(folder / "matches.jsonl", "w", encoding="utf-8") if folder else None  # noqa: SIM115 - closed below
        try:
            for part in parts:
                for match in _looked(part, sought, found, folder, workers, bar):
                    number = match.pop("number")
                    seen.add(number)
                    best.add(number, match)
                    if told:
                        told(match)
                    if lines:
                        lines.write(json.dumps(match, ensure_ascii=False) + "\n")
        finally:
            if lines:
                lines.close()
        for number in seen:
            found.sets[sought.items[number].set]["found"] += 1
        found.shown, found.written = best.sorted(), str(to or "")
        if folder:
            (folder / "contamination.json").write_text(json.dumps(found.summary(), indent=1) + "\n", encoding="utf-8")
    return found


def _sets(sought: Search) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for i, one in enumerate(sought.items):
        counts = found.setdefault(one.set, {"items": 0, "looked_for": 0, "too_short": 0, "nothing_of_their_own": 0, "found": 0})
        counts["items"] += 1
        for name, marks in (("looked_for", sought.looked), ("too_short", sought.short), ("nothing_of_their_own", sought.common)):
            counts[name] += int(marks[i])
    return found


class _Best:
    """The first match of every item, then the second and so on, as many as are shown; of equals those of which most was found."""

    def __init__(self) -> None:
        self.heap: list[tuple[int, float, int, dict[str, Any]]] = []
        self.times: Counter[int] = Counter()

    def add(self, number: int, match: dict[str, Any]) -> None:
        """A match of the item of this number."""
        self.times[number] += 1
        share = max(match["share"] or 0, match["near"] or 0)
        heapq.heappush(self.heap, (-self.times[number], share, -self.times.total(), match))
        if len(self.heap) > TOLD:
            heapq.heappop(self.heap)

    def sorted(self) -> list[dict[str, Any]]:
        return [match for *_, match in sorted(self.heap, key=lambda one: one[:3], reverse=True)]


@contextlib.contextmanager
def _written(to: Path | None) -> Iterator[Path | None]:
    """A folder that becomes `to` when all went well, and is gone otherwise."""
    if to is None:
        with _anew():
            yield None
        return
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise BadInput(f"--write: {to} is there already; name a new folder")
    aside = to.parent / f".{to.name}.part"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
    except OSError as error:
        raise BadInput(f"--write: {to} cannot be made ({error.strerror}); name another folder") from None
    try:
        with _anew():
            yield aside
        if to.exists():
            to.rmdir()
        aside.rename(to)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def _anew() -> Iterator[None]:
    """An interruption says that there is nothing to go on from."""
    try:
        yield
    except Interrupted as stopped:
        raise Interrupted(f"{stopped}; nothing was written, and the same command goes on from the beginning") from None


def _looked(part: Part, sought: Search, found: Found, folder: Path | None, workers: int, bar: Bar | None) -> Iterator[dict[str, Any]]:
    """The matches of one part of a corpus, with its other documents written to the folder."""
    from bloomery.data.parallel import threaded
    from bloomery.data.tables import Writer

    with Writer(folder / f"{part.name}.parquet") if folder else contextlib.nullcontext() as writer:
        for table, texts, matches in threaded(lambda given: (*given, sought.found(given[1])), part.tables(found.unread), workers):
            found.documents += table.num_rows
            found.bytes += _bytes(texts)
            leaking = sorted({match.document for match in matches})
            found.leaking += len(leaking)
            found.matches += len(matches)
            if writer is not None:
                writer.write(_without(table, leaking))
            yield from _told(part, table, texts, matches, sought)
            if bar:
                bar.advance(table.num_rows, f"{found.leaking:,} hold an item")


def _bytes(texts: Any) -> int:
    import pyarrow.compute as pc

    return pc.sum(pc.binary_length(texts)).as_py() or 0


def _without(table: Any, rows: Sequence[int]) -> Any:
    import numpy as np
    import pyarrow as pa

    keep = np.ones(table.num_rows, bool)
    keep[list(rows)] = False
    return table if keep.all() else table.filter(pa.array(keep))


def _told(part: Part, table: Any, texts: Any, matches: Sequence[Any], sought: Search) -> Iterator[dict[str, Any]]:
    """Matches as rows: who is found where, by what, and both texts."""
    excerpts: dict[int, Excerpts] = {}
    for match in matches:
        d, item = match.document, sought.items[match.item]
        if d not in excerpts:
            excerpts = {d: Excerpts(texts[d].as_py())}
        about = {name: table.column(name)[d].as_py() for name in ("id", "path") if name in table.schema.names}
        measured = {name: value if value is None else round(value, 4) for name, value in (("share", match.share), ("near", match.near))}
        whole = sought.text(match)
        shown = whole if len(whole) <= WHOLE else Excerpts(whole).between(0, len(whole))
        yield {
            "set": item.set, "item": item.name, "part": match.part, **measured,
            "corpus": part.place, "document": str(about.get("id", "")), "path": str(about.get("path", "")),
            "item_text": shown, "document_text": excerpts[d].between(match.start, match.stop),
            "number": match.item,
        }  # fmt: skip
