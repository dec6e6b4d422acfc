"""Curate's first half: texts and columns of every source, each an annotation of its own, so that only what is new is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.core import catalog, lineage
from bloomery.core.annotations import Annotation, held, wanted
from bloomery.core.errors import BadInput
from bloomery.core.files import files_below, sha256_file
from bloomery.core.workers import preload
from bloomery.data.sizes import parse_size
from bloomery.tools.needs import needing

if TYPE_CHECKING:
    from bloomery.core.job import Job
    from bloomery.data.annotate import Chunk, Maker
    from bloomery.data.chunks import Chunks
    from bloomery.data.sources import Source
    from bloomery.stages.curate import Curate


@dataclass
class Annotated:
    """The annotations of one source. `read` and `texts` are the same, unless edits ask models: then `read` is before the first of these."""

    number: int
    source: Source
    read: Annotation
    texts: Annotation
    columns: dict[str, tuple[Annotation, Maker]]

    def all(self) -> list[Annotation]:
        return [self.read, self.texts, *(one for one, _ in self.columns.values())]


@dataclass
class Tally:
    """How many chunks each kind of annotation was made on, and how many were found made."""

    made: dict[str, int] = field(default_factory=dict)
    reused: dict[str, int] = field(default_factory=dict)

    def note(self, name: str, made: int, reused: int) -> None:
        for counts, number in ((self.made, made), (self.reused, reused)):
            if number:
                counts[name] = counts.get(name, 0) + number

    def line(self) -> str:
        def counted(found: Mapping[str, int]) -> str:
            names = ", ".join(f"{name} {count}" for name, count in found.items() if name != "texts")
            return f" ({names})" if names else ""

        made, reused = self.made.get("texts", 0), self.reused.get("texts", 0)
        return f"read {made} chunks{counted(self.made)}, reused {reused}{counted(self.reused)}"


@contextmanager
def annotated(stage: Curate, job: Job) -> Iterator[Chunks]:
    """All documents of all sources, edited and measured; what an earlier step or a killed run has made is taken as it is."""
    from bloomery.data import sources
    from bloomery.data.chunks import Chunks, Part
    from bloomery.data.embedded import Embedded
    from bloomery.data.finish import values_of
    from bloomery.data.measured import columns_of

    tools = _tools(stage, job) if any(map(needing, stage.methods())) else None
    planned = [_plan(stage, job, k, source, tools) for k, source in enumerate(sources.open_sources(stage.sources))]
    everything = [one for source in planned for one in source.all()]
    with held(job.store, job.work, everything, job.log.say):
        _make(stage, job, planned, tools)
        if tools:
            job.fact("tools", tools.counts)
        if not any(source.texts.facts["seen"][0] for source in planned):
            raise BadInput(f"sources: {', '.join(map(str, stage.sources))} hold no documents; check the files")
        job.annotations = sorted({one.folder.name for one in everything if one.card})
        names = {**columns_of(stage.named("signals")), "keys": ["_key"], "signatures": ["_signature"]}
        names |= {Embedded(need).name: [need] for need in stage.vectors()}
        yield Chunks([
            Part(
                source.texts.folder,
                source.texts.facts,
                {column: values_of(one) for name, (one, _) in source.columns.items() for column in (*names[name], f"{name}.")},
            )
            for source in planned
        ])  # fmt: skip


def _tools(stage: Curate, job: Job) -> Any:
    """Models by role, and the sandbox, in this process; replies survive a kill."""
    from bloomery.tools.local import LocalTools

    return LocalTools({role: made.folder for role, made in (stage.roles or {}).items()}, job.work / "replies")


# ---- addresses ----------------------------------------------------------------------------------------------------------


def _plan(stage: Curate, job: Job, number: int, source: Source, tools: Any) -> Annotated:
    """What a source's annotations are to be, by address: each covers all that can change it, and nothing else."""
    from bloomery.data.embedded import Embedded
    from bloomery.data.marks import Keys, Signatures
    from bloomery.data.measured import Measured

    asking = {"roles": {role: made.address for role, made in (stage.roles or {}).items()}, "mode": stage.mode()}
    first = next((k for k, edit in enumerate(stage.edits) if needing(edit)), len(stage.edits))
    origin = {"source": fingerprint(source), "reader": source.reader, "options": asdict(source.options)}
    origin["limit"] = parse_size(stage.max_document, "max_document")
    read = wanted(job.store, "texts", {"of": origin, **_edits(stage.edits[:first], job)})
    texts = read
    if first < len(stage.edits):
        texts = wanted(job.store, "texts", {"of": read.address, **_edits(stage.edits[first:], job), **asking})
    columns: dict[str, tuple[Annotation, Maker]] = {}
    for name, signal in stage.named("signals"):
        about = {"of": texts.address, "signal": catalog.spec(signal), "code": lineage.code(["bloomery.data.measured"], [signal])}
        about |= _outside([signal])
        one = wanted(job.store, name, about | (asking if needing(signal) else {}))
        columns[name] = one, Measured(name, signal, tools if needing(signal) else None)
    for maker in (Keys(), Signatures()) if stage.near else (Keys(),):
        covers = {"of": texts.address, "code": lineage.code(["bloomery.data.marks"])}
        columns[maker.name] = wanted(job.store, maker.name, covers), maker
    for maker in (Embedded(need, tools) for need in stage.vectors()):
        covers = {"of": texts.address, "model": (stage.roles or {})[maker.need.split(":")[1]].address, "mode": stage.mode()}
        covers |= {"vectors": maker.need, "code": lineage.code(["bloomery.data.embedded", "bloomery.infer.embed"])}
        columns[maker.name] = wanted(job.store, maker.name, covers), maker
    return Annotated(number, source, read, texts, columns)


def _edits(edits: Sequence[Any], job: Job) -> dict[str, Any]:
    """What edits, and the reading before them, depend on; the seed only where an edit draws."""
    covers = {"edits": [catalog.spec(edit) for edit in edits], "code": lineage.code(["bloomery.data.texts"], edits)}
    covers |= _outside(edits)
    return covers | ({"seed": job.rng.key} if any(map(lineage.draws, edits)) else {})


def _outside(methods: Sequence[Any]) -> dict[str, Any]:
    """The content of what methods read besides the corpus, by the knobs that they name in `outside`."""
    from bloomery.data import sources

    found = {}
    for one in (one for method in methods for one in lineage.within(method)):
        for knob in getattr(one, "outside", ()):
            if place := getattr(one, knob):
                paths = files_below(Path(place)) if Path(place).is_dir() else [Path(place)] if Path(place).is_file() else []
                opened = [] if paths else sources.open_sources([place])
                found[f"{type(one).__module__}.{knob}"] = [*map(sha256_file, paths), *map(fingerprint, opened)]
    return {"outside": found} if found else {}


def fingerprint(source: Source) -> dict[str, Any]:
    """What identifies the content of a source; files of this machine are hashed once in a process, for as long as they do not change.
    What a folder, a repository or an address holds may change unseen, and is looked at each time."""
    from bloomery.data import sources
    from bloomery.data.read import places

    about = tuple(places.stamp(path) for path, _ in source.files)
    return _fingerprint(source, about) if about and all(about) else sources.fingerprint([source])[0]


@lru_cache(maxsize=64)
def _fingerprint(source: Source, about: tuple[tuple[int, ...], ...]) -> dict[str, Any]:
    from bloomery.data import sources

    return sources.fingerprint([source])[0]


# ---- making -------------------------------------------------------------------------------------------------------------


def _make(stage: Curate, job: Job, planned: Sequence[Annotated], tools: Any) -> None:
    """Make what is missing: texts and plain columns on all workers, then whatever asks models in this process, chunk by chunk."""
    tally = Tally()
    for source in planned:
        for one in (source.texts, *(one for one, _ in source.columns.values())):
            if one.card:
                tally.note(one.name, 0, one.facts["chunks"])
    unasked = {name for name, signal in stage.named("signals") if not needing(signal)} | {"keys", "signatures"}
    direct = {source.number for source in planned if source.read is source.texts}
    _pass(stage, job, [_reading(source, stage, job, unasked if source.number in direct else set()) for source in planned], tally, "reading")
    for source in planned:
        if source.number not in direct:
            _ask_texts(source, stage, job, tools, tally)
    late = [source for source in planned if source.number not in direct]
    _pass(stage, job, [_measuring(source, job, unasked) for source in late], tally, "measuring")
    for source in planned:
        _ask_columns(source, job, tally)
    job.log.say(tally.line())
    job.fact("annotations", {"made": tally.made, "reused": tally.reused})


@dataclass
class Pass:
    """What one source still needs in a pass: its chunks, their number where it is known, their bytes, and what they finish."""

    source: Annotated
    chunks: Iterator[Chunk]
    bytes: int
    texts: Annotation | None
    columns: list[Annotation]


def _reading(source: Annotated, stage: Curate, job: Job, names: set[str]) -> Pass:
    """Reading of a source, with the columns of these names; where its texts are there, only the columns that are not."""
    from bloomery.data import sources
    from bloomery.data.annotate import Chunk, Work
    from bloomery.data.texts import Editing

    if source.read.card or source.texts.card:
        return _measuring(source, job, names)
    first = next((k for k, edit in enumerate(stage.edits) if needing(edit)), len(stage.edits))
    missing = _missing(source, names)
    editing = Editing(stage.named("edits")[:first], job.rng)
    work = Work(_desk(job), source.number, str(source.read.folder.resolve()), editing, _places(missing))
    tasks = sources.tasks([source.source], parse_size(stage.max_document, "max_document"))
    chunks = (Chunk(work, number, task) for number, task in enumerate(tasks))
    return Pass(source, chunks, sources.size([source.source]), source.read, [one for one, _ in missing])


def _measuring(source: Annotated, job: Job, names: set[str]) -> Pass:
    """Columns of these names of a source whose texts are there, as far as they are not."""
    from bloomery.data.annotate import Chunk, Work

    missing = _missing(source, names)
    if not missing:
        return Pass(source, iter(()), 0, None, [])
    work = Work(_desk(job), source.number, columns=_places(missing))
    chunks = (Chunk(work, number, files=files) for number, files in _files(source.texts))
    size = source.texts.facts["seen"][1] - source.texts.facts["rewritten"][1]
    return Pass(source, chunks, size, None, [one for one, _ in missing])


def _missing(source: Annotated, names: set[str]) -> list[tuple[Annotation, Maker]]:
    return [pair for name, pair in source.columns.items() if name in names and pair[0].card is None]


def _places(missing: Sequence[tuple[Annotation, Maker]]) -> tuple[tuple[str, Maker], ...]:
    return tuple((str(one.folder.resolve()), maker) for one, maker in missing)


def _desk(job: Job) -> str:
    return str(job.work.resolve())


def _files(texts: Annotation) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The files of a whole annotation's texts, chunk by chunk."""
    chunks: dict[int, list[str]] = {number: [] for number in range(texts.facts["chunks"])}
    for file, _ in texts.facts["files"]:
        chunks[int(file.partition("-")[0])].append(str((texts.folder / file).resolve()))
    return ((number, tuple(files)) for number, files in chunks.items())


def _pass(stage: Curate, job: Job, passes: Sequence[Pass], tally: Tally, label: str) -> None:
    """One way through the chunks of all sources on all workers."""
    from bloomery.data.annotate import Deaths, annotate

    if stage.workers(job) > 1:  # one worker alone takes less without a server that holds the same
        preload("bloomery.data.annotate", "bloomery.data.marks", "bloomery.data.sources")
    counts = [0] * len(passes)
    made: list[dict[str, int]] = [{} for _ in passes]

    def items() -> Iterator[Chunk]:
        for k, one in enumerate(passes):
            for chunk in one.chunks:
                counts[k] += 1
                order.append(k)
                yield chunk

    order: list[int] = []
    with job.log.progress(label, total=sum(one.bytes for one in passes) or None, unit="bytes") as bar:
        results = job.executor.map(annotate, items(), label=label, crashed=Deaths(job.log.say), workers=stage.workers(job))
        for place, result in enumerate(results):
            bar.advance(result["bytes"])
            for name in result["made"]:
                made[order[place]][name] = made[order[place]].get(name, 0) + 1
    for one, count, new in zip(passes, counts, made, strict=True):
        _finish(one.source, one.texts, one.columns, count, new, tally)


def _finish(
    source: Annotated, texts: Annotation | None, columns: Sequence[Annotation], count: int, new: Mapping[str, int], tally: Tally
) -> None:
    """Make the annotations of a pass whole, and count."""
    from bloomery.data.finish import finish_columns, finish_texts

    if texts is not None:
        finish_texts(texts, count)
        tally.note("texts", new.get("texts", 0), count - new.get("texts", 0))
    for one in columns:
        finish_columns(one, source.texts)
        tally.note(one.name, new.get(one.name, 0), count - new.get(one.name, 0))


def _ask_texts(source: Annotated, stage: Curate, job: Job, tools: Any, tally: Tally) -> None:
    """Edits from the first on that asks a model, in this process."""
    from bloomery.data.annotate import Chunk, Work, annotate
    from bloomery.data.texts import Editing

    if source.texts.card:
        return
    first = next(k for k, edit in enumerate(stage.edits) if needing(edit))
    work = Work(_desk(job), source.number, str(source.texts.folder), Editing(stage.named("edits")[first:], job.rng, tools))
    made = [annotate(Chunk(work, number, files=files))["made"] for number, files in _files(source.read)]
    _finish(source, source.texts, [], len(made), {"texts": sum(map(len, made))}, tally)


def _ask_columns(source: Annotated, job: Job, tally: Tally) -> None:
    """Signals that ask models, in this process; and the count of what was there."""
    from bloomery.data.annotate import Chunk, Work, annotate

    missing = _missing(source, set(source.columns))
    if missing:
        work = Work(_desk(job), source.number, columns=_places(missing))
        made = [annotate(Chunk(work, number, files=files))["made"] for number, files in _files(source.texts)]
        counts = {one.name: sum(one.name in found for found in made) for one, _ in missing}
        _finish(source, None, [one for one, _ in missing], len(made), counts, tally)
