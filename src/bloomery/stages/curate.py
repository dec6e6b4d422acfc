"""Curate: raw documents become a clean corpus with a held-out part, and every document that is left out has a reason."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from bloomery.core.errors import BadInput
from bloomery.core.job import Forecast
from bloomery.core.machine import threads
from bloomery.data.sizes import parse_size
from bloomery.seams import Edit, Select, Signal
from bloomery.tools.needs import bound, needing

if TYPE_CHECKING:
    from bloomery.core.job import Job
    from bloomery.core.log import Log
    from bloomery.core.machine import Machine
    from bloomery.core.store import Artifact
    from bloomery.data.chunks import Chunks
    from bloomery.data.funnel import Funnel

SPEED = 6e6  # bytes a second and core, reading, signals, duplicates and checks together; measured
ASKED = 3e5  # bytes a second that a small model reads on two cores
ABOUT = ("id", "text", "path", "package", "domain", "licence", "source", "bytes")  # columns of a corpus before the signals


@dataclass(frozen=True)
class Curate:
    """Read documents, clean and measure them, drop what is unfit or repeated, and hold out whole packages."""

    sources: list  # addresses (python://, hf://name, paths, globs), or mappings {from: ADDRESS, option: value}
    edits: tuple[Edit, ...] = ("normalize",)  # applied to every document, in order
    signals: tuple[Signal, ...] = ("length", "lines", "repetition", "symbols", "comments")  # numbers measured on every document
    keep: str = ""  # condition over the signals, such as length.words >= 20 and lines.longest < 1000; empty keeps all
    near: float = 0.8  # Jaccard similarity of word 5-grams from which a document is a duplicate; 0 = exact duplicates only
    select: Select | None = None  # chooses documents under `budget`
    budget: str = ""  # bytes to select, such as 10MB
    heldout: float = 0.05  # share of the bytes held out, in whole packages
    guard: float = 0.5  # a held-out document this similar to a training document is dropped; 0 = off
    max_document: str = "10MB"  # longer documents are dropped
    roles: Annotated[dict[str, Artifact] | None, "model"] = None  # models that edits and signals ask, by role, such as {teacher: $big}
    makes: ClassVar[str] = "corpus"

    def __post_init__(self) -> None:
        for name in ("near", "guard"):
            if not (value := getattr(self, name)) == 0 and not 0.1 <= value <= 1:
                raise ValueError(f"{name} must be 0 or between 0.1 and 1, not {value}")
        if not 0 <= self.heldout < 0.9:
            raise ValueError(f"heldout must be at least 0 and below 0.9, not {self.heldout}")
        if bool(self.budget) != (self.select is not None):
            raise ValueError("select and budget go together: name a selection and how many bytes it may keep")
        parse_size(self.max_document, "max_document")
        if self.budget:
            parse_size(self.budget, "budget")

    def probe(self) -> dict[str, Any]:
        """Look at every source, and at what methods read besides, and hash their content. BadInput for whatever could not be read."""
        from bloomery.data import sources
        from bloomery.data.named import fingerprints

        opened = sources.open_sources(self.sources)
        sources.check(opened)
        outside = fingerprints((*self.edits, *self.signals))
        return {"sources": sources.fingerprint(opened), **({"outside": outside} if outside else {})}

    def mode(self) -> dict[str, Any]:
        """Models are asked in fp32; the number of threads may change their last digit."""
        return {"precision": "float32", "threads": threads()} if self.roles else {}

    def forecast(self, inputs: dict[str, Forecast], machine: Machine) -> Forecast:
        """From the size of the sources and speeds measured on one core; also where `keep` is read for the first time."""
        from bloomery.data import sources

        self._condition()
        bound((*self.edits, *self.signals), self.roles or {})
        size = sources.size(sources.open_sources(self.sources))
        left = 0.8 * min(size, parse_size(self.budget, "budget") if self.budget else size)
        facts = {"bytes": left, "train_bytes": (1 - self.heldout) * left, "heldout_bytes": self.heldout * left, "documents": left / 12e3}
        workers = max(1, min(machine.cores, 64))
        asked = sum(map(needing, (*self.edits, *self.signals))) * size / ASKED
        return Forecast(seconds=4 + size / SPEED / workers + asked, memory=350e6 * (1 + workers) + 4 * size, disk=0.9 * size, facts=facts)

    def run(self, job: Job) -> None:
        """Read and measure in chunks, then sift, split and write."""
        from bloomery.data.chunks import Chunks
        from bloomery.data.funnel import Funnel
        from bloomery.data.prepare import signal_columns

        condition = self._condition()
        summaries = self._prepare(job)
        chunks = Chunks([job.work / name for summary in summaries for name in summary["files"]])
        funnel = Funnel(chunks.column("bytes"))
        seen = [sum(summary["seen"][k] for summary in summaries) for k in (0, 1)]
        broken = [one for summary in summaries for one in summary["dropped"]]
        self._left_out(funnel, broken, summaries, job.log)
        self._keep(funnel, chunks, condition)
        self._unique(funnel, chunks)
        weights = self._choose(funnel, chunks, job)
        train, heldout = self._split(funnel, chunks, job)
        if not len(train):
            raise BadInput("nothing is left to train on; lower `heldout` or `guard`, or add sources")
        story = funnel.story(seen, {"train": train, "heldout": heldout})
        _write(job.out, chunks, funnel, broken, {"train": train, "heldout": heldout}, signal_columns(self._named("signals")), weights)
        (job.out / "funnel.json").write_text(json.dumps(story, indent=1) + "\n", encoding="utf-8")
        for part in ("train", "heldout"):
            for unit in ("documents", "bytes"):
                job.fact(f"{part}_{unit}", story["out"][part][unit])
        for unit in ("documents", "bytes"):
            job.fact(unit, sum(part[unit] for part in story["out"].values()))
        job.log.say(f"{seen[0]} documents in, {len(train)} to train on, {len(heldout)} held out")

    def check(self, made: Path, job: Job) -> None:
        """The funnel adds up and tells what the files hold; no package and no near-copy is on both sides of the split."""
        from bloomery.data.duplicates import largest_crossing
        from bloomery.data.funnel import missing
        from bloomery.data.tables import read_table

        story = json.loads((made / "funnel.json").read_text(encoding="utf-8"))
        parts = {name: read_table(made / f"{name}.parquet", ["id", "package", "bytes"]) for name in ("train", "heldout")}
        ids = [name for table in parts.values() for name in table.column("id").to_pylist()]
        written = {name: [0, 0] for name in parts}
        for name in parts:
            for texts in _texts(made / f"{name}.parquet"):
                written[name][0] += len(texts)
                written[name][1] += sum(len(text.encode()) for text in texts)
        for k, unit in enumerate(("documents", "bytes")):
            job.check(f"{unit} that the funnel does not account for", abs(missing(story, unit)), 0)
            job.check(f"{unit} written but not counted", sum(abs(written[name][k] - story["out"][name][unit]) for name in parts), 0)
        job.check("ids used twice", len(ids) - len(set(ids)), 0)
        both = set(parts["train"].column("package").to_pylist()) & set(parts["heldout"].column("package").to_pylist())
        job.check("packages on both sides of the split", len(both), 0, note=", ".join(sorted(both)[:3]))
        if self.guard and parts["heldout"].num_rows:
            held = [text for texts in _texts(made / "heldout.parquet") for text in texts]
            value, pairs = largest_crossing(held, lambda: _texts(made / "train.parquet"), self.guard)
            note = f"over {pairs} candidate pairs"
            job.check("largest Jaccard similarity across the split", value, self.guard, ok=value < self.guard, note=note)

    def _named(self, knob: str) -> tuple[tuple[str, Any], ...]:
        """The methods of a knob with their names in recipes."""
        from bloomery.data.prepare import method_name

        return tuple((method_name(method), method) for method in getattr(self, knob))

    def _condition(self) -> Any:
        """The parsed `keep`, against the columns that the signals make and what is known of every document."""
        from bloomery.data.expression import parse_keep
        from bloomery.data.prepare import signal_columns

        kinds = dict.fromkeys((*signal_columns(self._named("signals")), "document.bytes"), "number")
        return parse_keep(self.keep, kinds | dict.fromkeys((f"document.{name}" for name in ABOUT if name not in ("text", "bytes")), "text"))

    def _prepare(self, job: Job) -> list[dict[str, Any]]:
        """Read, edit and measure all chunks on all workers; what an earlier, killed run has made is taken as it is.

        Methods that ask models, and edits after them, have their turn in this process, chunk by chunk.
        """
        from bloomery.data import sources
        from bloomery.data.consult import consult, divided
        from bloomery.data.prepare import Recipe, prepare

        opened = sources.open_sources(self.sources)
        recipe = Recipe(str(job.work), self._named("edits"), self._named("signals"), bool(self.near), job.rng)
        tools = self._tools(job) if any(map(needing, (*self.edits, *self.signals))) else None
        first, rest = divided(recipe, needing) if tools else (recipe, recipe)
        items = enumerate(sources.tasks(opened, parse_size(self.max_document, "max_document")))
        summaries = []
        with job.log.progress("reading", total=sources.size(opened), unit="bytes") as bar:
            for summary in job.executor.map(partial(prepare, recipe=first), items, label="reading"):
                summary = consult(summary, rest, tools) if tools else summary
                summaries.append(summary)
                bar.advance(summary["seen"][1])
        if not any(summary["seen"][0] for summary in summaries):
            raise BadInput(f"sources: {', '.join(map(str, self.sources))} hold no documents; check the files")
        if tools:
            job.fact("tools", tools.counts)
        return summaries

    def _tools(self, job: Job) -> Any:
        """Models by role, and the sandbox, in this process; replies survive a kill."""
        from bloomery.tools.local import LocalTools

        return LocalTools({role: made.folder for role, made in (self.roles or {}).items()}, job.work / "replies")

    def _left_out(self, funnel: Funnel, broken: Sequence[Mapping[str, Any]], summaries: Sequence[Mapping[str, Any]], log: Log) -> None:
        """The first steps of the funnel: documents that could not be read or that an edit dropped, and what edits changed."""
        for reason in dict.fromkeys(one["reason"] for one in broken):
            sizes = [one["bytes"] for one in broken if one["reason"] == reason]
            example = next((f"{one['path']}: {one['note']}" for one in broken if one["reason"] == reason and one["note"]), "")
            funnel.outside(reason, len(sizes), sum(sizes), f"for example {example}" if example else "")
            if example:
                log.say(f"{len(sizes)} documents dropped as {reason}, for example {example}")
        if self.edits:
            documents, size = (sum(summary["rewritten"][k] for summary in summaries) for k in (0, 1))
            funnel.outside("rewritten", documents, size, "what edits changed: " + ", ".join(name for name, _ in self._named("edits")))

    def _keep(self, funnel: Funnel, chunks: Chunks, condition: Any) -> None:
        """Drop what fails the condition, by its first failing clause."""
        rows = funnel.rows
        if condition.clauses:
            named = {name: name.removeprefix("document.") for name in condition.columns}
            failed = condition.failed({name: chunks.column(column) for name, column in named.items()} or {"": chunks.column("bytes")})
            for number, (clause, _) in enumerate(condition.clauses):
                funnel.drop(f"keep: {clause}", rows[failed[rows] == number])
        if not len(funnel.rows):
            worst = funnel.worst() or {"reason": "nothing", "documents": 0}
            knob, mend = ("keep", "loosen `keep`") if worst["reason"].startswith("keep:") else ("sources", "check the sources")
            total = sum(step["documents"] for step in funnel.steps)
            clause, number = worst["reason"].removeprefix("keep: "), worst["documents"]
            raise BadInput(f"{knob}: no documents are left: `{clause}` dropped most, {number} of {total}; {mend}")

    def _unique(self, funnel: Funnel, chunks: Chunks) -> None:
        """Drop exact duplicates, then near ones."""
        from bloomery.data.duplicates import exact_duplicates, near_duplicates

        ids, sizes, keys, rows = chunks.column("id"), chunks.column("bytes"), chunks.column("_key"), funnel.rows
        copies = exact_duplicates(keys[rows], sizes[rows], ids[rows])
        funnel.drop("exact duplicate", {int(rows[row]): f"of {ids[rows[kept]]}" for row, kept in copies.items()})
        if self.near:
            signed, signature = chunks.signatures()
            left = funnel.reasons[signed] == ""
            rows, signature = signed[left], signature[left]
            copies = near_duplicates(signature, lambda chosen: chunks.texts(rows[chosen]), self.near, sizes[rows], ids[rows])
            note = f"Jaccard similarity {self.near} or more, or joined to it by such pairs"
            funnel.drop("near duplicate", {int(rows[row]): f"of {ids[rows[kept]]}" for row, kept in copies.items()}, note)

    def _choose(self, funnel: Funnel, chunks: Chunks, job: Job) -> Any:
        """Weights of all rows by the selection, None without one; a weight of 0 drops."""
        import numpy as np

        if self.select is None:
            return None
        rows = funnel.rows
        columns = {name: chunks.column(name)[rows] for name in chunks.table.column_names if not name.startswith("_")}
        chosen = np.asarray(self.select.weigh(columns, parse_size(self.budget, "budget"), job.rng.child("select")), np.float64)
        if chosen.shape != rows.shape or not np.all(chosen >= 0):
            raise BadInput(f"select: {self._select_name()} must give one weight of 0 or more per document")
        funnel.drop("not selected", rows[chosen == 0], f"{self._select_name()}, budget {self.budget}")
        if not np.any(chosen):
            raise BadInput(f"budget: {self.budget} selects no document; the smallest has {int(columns['bytes'].min())} bytes")
        weights = np.zeros(len(chunks))
        weights[rows] = chosen
        return weights

    def _select_name(self) -> str:
        from bloomery.data.prepare import method_name

        return method_name(self.select)

    def _split(self, funnel: Funnel, chunks: Chunks, job: Job) -> tuple[Any, Any]:
        """Rows to train on and rows held out; held-out documents with a near-copy among the former are dropped."""
        import numpy as np

        from bloomery.data.duplicates import nearest
        from bloomery.data.split import held_out

        rows, packages = funnel.rows, chunks.column("package")
        chosen = held_out(packages[rows], funnel.sizes[rows], self.heldout, job.rng.child("heldout"))
        out = np.array([packages[row] in chosen for row in rows], bool)
        train, heldout = rows[~out], rows[out]
        if self.guard and len(heldout):
            others = (part.column("text").to_pylist() for part in chunks.parts(train, ["text"]))
            best, where = nearest(chunks.texts(heldout), others, self.guard)
            ids, copies = chunks.column("id"), np.flatnonzero(best >= self.guard)
            notes = {int(heldout[k]): f"Jaccard similarity {best[k]:.3f} to {ids[train[where[k]]]}" for k in copies}
            funnel.drop("near-copy of training", notes, f"Jaccard similarity {self.guard} or more")
            heldout = np.delete(heldout, copies)
        return train, heldout


def _texts(path: Path) -> Iterator[list[str]]:
    """The texts of a corpus file in batches."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["text"]):
            yield batch.column("text").to_pylist()


def _write(
    out: Path,
    chunks: Chunks,
    funnel: Funnel,
    broken: Sequence[Mapping[str, Any]],
    parts: Mapping[str, Any],
    signals: Sequence[str],
    weights: Any,
) -> None:
    """train.parquet, heldout.parquet and dropped.parquet, in the order of the sources."""
    import numpy as np
    import pyarrow as pa

    from bloomery.data.funnel import unique
    from bloomery.data.tables import Writer, write_table

    ids = pa.array(unique(list(chunks.column("id"))), pa.string())
    columns = [*ABOUT, *signals]
    for name, rows in parts.items():
        with Writer(out / f"{name}.parquet") as writer:
            done = 0
            for part in chunks.parts(rows, columns) if len(rows) else [chunks.empty(columns)]:
                here = rows[done : done + part.num_rows]
                part = part.set_column(0, "id", ids.take(pa.array(here, pa.int64())))
                if weights is not None:
                    part = part.append_column("select.weight", pa.array(weights[here]))
                writer.write(part)
                done += part.num_rows
    gone = np.flatnonzero(funnel.reasons != "")
    about = [name for name in columns if name != "text"]
    table = chunks.table.select(about).take(pa.array(gone)).set_column(0, "id", ids.take(pa.array(gone)))
    for name, values in (("reason", funnel.reasons), ("note", funnel.notes)):
        table = table.append_column(name, pa.array(values[gone], pa.string()))
    unread = pa.table({field.name: pa.array([one.get(field.name) for one in broken], field.type) for field in table.schema})
    write_table(pa.concat_tables([unread, table]), out / "dropped.parquet")
