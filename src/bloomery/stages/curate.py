"""Curate: raw documents become a clean corpus with a held-out part, and every document that is left out has a reason."""

from __future__ import annotations

import hashlib
import json
from collections import ChainMap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from bloomery.core.errors import BadInput, near
from bloomery.core.job import Forecast
from bloomery.core.machine import memory_bytes, release, resident, threads
from bloomery.data.columns import ABOUT
from bloomery.data.sizes import parse_budget, parse_size
from bloomery.seams import Edit, Select, Signal
from bloomery.tools.needs import bound, needing, needs

if TYPE_CHECKING:
    from bloomery.core.job import Job
    from bloomery.core.log import Log
    from bloomery.core.machine import Machine
    from bloomery.core.store import Artifact
    from bloomery.data.chunks import Chunks
    from bloomery.data.funnel import Funnel

SPEED = 6e6  # bytes a second and core, reading, signals, duplicates and checks together; measured
ASKED = 3e5  # bytes a second that a small model reads on two cores
MAIN = 320_000_000  # bytes of this process without documents, with its libraries and the server that workers come from; measured
WORKER = 280_000_000  # bytes of one worker with its libraries and a chunk; measured
KEYS = 400  # bytes of memory for each document whose key may be another's
SPARE = 65_000_000  # bytes that this process may still need for code, beside what grows with the documents; measured
COLUMN = 65  # bytes that each document may still need while a step goes on; measured on 0.3 and 1.1 million documents
LEAST = 24_000_000  # bytes for documents, however much this process holds already
PASSAGES = 2  # bytes of files for one byte of text, while repeated passages are looked for


@dataclass(frozen=True)
class Curate:
    """Read documents, clean and measure them, drop what is unfit or repeated, and hold out whole packages."""

    sources: list  # addresses (python://, hf://name, paths, globs), or mappings {from: ADDRESS, option: value}
    edits: tuple[Edit, ...] = ("normalize",)  # applied to every document, in order
    signals: tuple[Signal, ...] = ("length", "lines", "repetition", "symbols", "comments")  # numbers measured on every document
    keep: str = ""  # condition over the signals, such as length.words >= 20 and lines.longest < 1000; empty keeps all
    near: float = 0.8  # Jaccard similarity of word 5-grams from which a document is a duplicate; 0 = exact duplicates only
    substring: int = 0  # tokens (words, or other characters but white space) from which a passage that stands before is cut; 0 = off
    decontaminate: list | None = None  # evaluation sets: addresses like those of `sources`, or tasks that have items of their own
    leak_words: int = 8  # words per run by which evaluation items are looked for
    leak_share: float = 0.5  # share of an item's runs in one document that drops the document; 0 = one run is enough
    select: Select | None = None  # chooses documents under `budget`
    budget: str = ""  # how much to select: bytes (10MB), tokens (10M tokens, by the signal `tokens`) or another column (2M length.words)
    heldout: float = 0.05  # share of the bytes held out, in whole packages
    guard: float = 0.5  # a held-out document this similar to a training document is dropped; 0 = off
    max_document: str = "10MB"  # longer documents are dropped
    roles: Annotated[dict[str, Artifact] | None, "model"] = None  # models that edits and signals ask, by role, such as {teacher: $big}
    memory: str = ""  # what all processes together may take, such as 2GB; empty = half of what the machine has; changes no byte
    makes: ClassVar[str] = "corpus"
    apart: ClassVar[tuple[str, ...]] = ("memory",)

    def __post_init__(self) -> None:
        for name in ("near", "guard"):
            if not (value := getattr(self, name)) == 0 and not 0.1 <= value <= 1:
                raise ValueError(f"{name} must be 0 or between 0.1 and 1, not {value}")
        if self.substring < 0 or self.substring == 1:
            raise ValueError(f"substring must be 0 or at least 2, not {self.substring}")
        if self.leak_words < 1 or not 0 <= self.leak_share <= 1:
            raise ValueError("leak_words must be at least 1, and leak_share between 0 and 1")
        if self.decontaminate is not None and not self.decontaminate:
            raise ValueError("decontaminate names no evaluation set; name one, or leave it out")
        if not 0 <= self.heldout < 0.9:
            raise ValueError(f"heldout must be at least 0 and below 0.9, not {self.heldout}")
        if bool(self.budget) != (self.select is not None):
            raise ValueError("select and budget go together: name a selection and how many bytes it may keep")
        parse_size(self.max_document, "max_document")
        if self.budget:
            parse_budget(self.budget, None, "budget")
        if self.memory and parse_size(self.memory, "memory") < MAIN + WORKER:
            least = (MAIN + WORKER) // 10**6
            raise ValueError(f"memory must be at least {least}MB, what one worker and this process need, not {self.memory}")

    def probe(self) -> dict[str, Any]:
        """Look at every source, and at what methods read besides, and hash their content. BadInput for whatever could not be read."""
        from bloomery.data import sources
        from bloomery.data.named import fingerprints

        opened = sources.open_sources(self.sources)
        sources.check(opened)
        found: dict[str, Any] = {"sources": sources.fingerprint(opened)}
        if outside := fingerprints((*self.edits, *self.signals)):
            found["outside"] = outside
        if items := self._items(0):
            found["decontaminate"] = hashlib.sha256(json.dumps([items.names, items.texts]).encode()).hexdigest()
        return found

    def mode(self) -> dict[str, Any]:
        """Models are asked in fp32; the number of threads may change their last digit."""
        return {"precision": "float32", "threads": threads()} if self.roles else {}

    def forecast(self, inputs: dict[str, Forecast], machine: Machine) -> Forecast:
        """From the size of the sources and speeds measured on one core; also where `keep` is read for the first time."""
        from bloomery.data import sources

        self._condition()
        self._goes_by()
        counted = parse_budget(self.budget, self._columns(), "budget") if self.budget else (0, "")
        bound(self.methods(), self.roles or {})
        self.vectors()
        size = sources.size(sources.open_sources(self.sources))
        left = 0.8 * min(size, counted[0] if counted[1] == "bytes" else size)
        facts = {"bytes": left, "train_bytes": (1 - self.heldout) * left, "heldout_bytes": self.heldout * left, "documents": left / 12e3}
        workers = max(1, min(machine.cores, 64))
        asked = sum(map(needing, self.methods())) * size / ASKED
        facts |= {"work_disk": PASSAGES * size} if self.substring else {}
        return Forecast(
            seconds=4 + size / SPEED / workers + asked,
            memory=min(self.cap(), MAIN + WORKER * workers + size),
            disk=0.9 * size,
            facts=facts,
        )

    def run(self, job: Job) -> None:
        """Read and measure what no earlier step has, then sift, split and write."""
        from bloomery.stages._curate_annotate import annotated

        condition = self._condition()
        with annotated(self, job) as chunks:
            self._sift(chunks, condition, job)

    def _sift(self, chunks: Chunks, condition: Any, job: Job) -> None:
        """Drop step by step, and write what is left and what is not."""
        from bloomery.data.funnel import Funnel
        from bloomery.stages._curate_write import write, write_thresholds

        funnel = Funnel(chunks.column("bytes"))
        self._left_out(funnel, chunks, job.log)
        self._keep(funnel, chunks, condition)
        write_thresholds(job.out / "thresholds.json", chunks, self.keep)  # by the numbers that `keep` saw: passages are cut later
        self._unique(funnel, chunks, job)
        self._clean(funnel, chunks, job)
        weights = self._choose(funnel, chunks, job)
        train, heldout = self._split(funnel, chunks, job)
        if not len(train):
            raise BadInput("nothing is left to train on; lower `heldout` or `guard`, or add sources")
        release()
        train = self._repeated(funnel, train, weights, job)
        story = funnel.story(chunks.seen, {"train": train, "heldout": heldout})
        columns = [*ABOUT, *(("spans",) if chunks.marked else ()), *self._columns()]
        write(job.out, chunks, funnel, {"train": train, "heldout": heldout}, columns, weights)
        (job.out / "funnel.json").write_text(json.dumps(story, indent=1) + "\n", encoding="utf-8")
        for part in ("train", "heldout"):
            for unit in ("documents", "bytes"):
                job.fact(f"{part}_{unit}", story["out"][part][unit])
        for unit in ("documents", "bytes"):
            job.fact(unit, sum(part[unit] for part in story["out"].values()))
        job.log.say(f"{chunks.seen[0]} documents in, {len(train)} to train on, {len(heldout)} held out")

    def check(self, made: Path, job: Job) -> None:
        """The funnel adds up and tells what the files hold; no package and no near-copy is on both sides of the split."""
        from bloomery.data.funnel import missing
        from bloomery.data.streamed import largest_crossing_streamed, texts_of, told
        from bloomery.data.written import repeated_ids, written

        story = json.loads((made / "funnel.json").read_text(encoding="utf-8"))
        parts = {name: written(made / f"{name}.parquet") for name in ("train", "heldout")}
        for unit in ("documents", "bytes"):
            job.check(f"{unit} that the funnel does not account for", abs(missing(story, unit)), 0)
            apart = sum(abs(getattr(part, unit) - story["out"][name][unit]) for name, part in parts.items())
            job.check(f"{unit} written but not counted", apart, 0)
        job.check("ids used twice", repeated_ids(parts.values()), 0)
        both = sorted(parts["heldout"].packages & parts["train"].packages)
        job.check("packages on both sides of the split", len(both), 0, note=", ".join(both[:3]))
        documents, held = sum(part.documents for part in parts.values()), parts["heldout"].documents
        del parts
        if self.guard and held:
            sides, room = (made / "heldout.parquet", made / "train.parquet"), self.room(documents)
            value, pairs = largest_crossing_streamed(*sides, self.guard, room, job.log)
            note = f"over {pairs} candidate pairs"
            job.check("largest Jaccard similarity across the split", value, self.guard, ok=value < self.guard, note=note)
        if items := self._items(job.seed):
            from bloomery.stages._curate_clean import leaked

            with job.log.progress("checking for evaluation items", total=documents, unit="documents") as bar:
                texts = (told(texts_of(made / f"{name}.parquet"), bar) for name in ("train", "heldout"))
                found = sum(leaked(items, some, self.leak_share) for some in texts)
            job.check("documents that hold an evaluation item", found, 0, note=f"{len(items.names)} items")

    def _items(self, seed: int) -> Any:
        """What must not stand in the corpus; None where nothing is named."""
        from bloomery.stages._curate_clean import evaluation_items

        return evaluation_items(self.decontaminate, self.leak_words, seed) if self.decontaminate else None

    def named(self, knob: str) -> tuple[tuple[str, Any], ...]:
        """The methods of a knob with their names in recipes."""
        from bloomery.data.texts import method_name

        return tuple((method_name(method), method) for method in getattr(self, knob))

    def methods(self) -> tuple[Any, ...]:
        """All that may ask models."""
        return (*self.edits, *self.signals, *((self.select,) if self.select else ()))

    def vectors(self) -> list[str]:
        """The vectors of documents that the selection reads, as it names them, such as embed:encoder:weighted. BadInput for other needs."""
        found = list(dict.fromkeys(need for _, need in needs([self.select])))
        if strange := [need for need in found if need.partition(":")[0] != "embed"]:
            raise BadInput(f"select: {self._select_name()} needs {strange[0]}, and a selection gets vectors alone; measure it by a signal")
        return found

    def _goes_by(self) -> None:
        """BadInput for a column that the selection goes by and that neither documents nor signals have."""
        known = [*(name for name in ABOUT if name != "text"), *self._columns()]
        words = {name for name in ABOUT if name != "bytes"}
        for knob in ("column", "by", "task"):
            if (name := getattr(self.select, knob, "")) and name not in known:
                raise BadInput(f"select: {self._select_name()} goes by the column '{name}', which is not there; {near(name, known)}")
            if name in words and getattr(type(self.select), knob, "") not in {"", *words}:  # its default is a column of numbers
                raise BadInput(f"select: {self._select_name()} goes by numbers, and the column '{name}' holds text; name a signal's column")

    def _columns(self) -> list[str]:
        """All columns that the signals make."""
        from bloomery.data.measured import columns_of

        return [column for columns in columns_of(self.named("signals")).values() for column in columns]

    def cap(self) -> int:
        """Bytes that all processes of this machine may take together."""
        return parse_size(self.memory, "memory") if self.memory else memory_bytes() // 2

    def room(self, documents: int) -> int:
        """Bytes that may be taken now: what the cap leaves beside what this process, with its libraries, and its workers hold, and what
        columns of so many documents still need."""
        release()
        return max(LEAST, self.cap() - resident() - SPARE - COLUMN * documents)

    def workers(self, job: Job) -> int:
        """How many workers the memory allows beside what this process holds by now; those of a cluster have their own."""
        if not job.executor.shares_memory:
            return job.executor.workers
        return max(1, min(job.executor.workers, (self.cap() - max(MAIN, resident())) // WORKER))

    def _condition(self) -> Any:
        """The parsed `keep`, against the columns that the signals make and what is known of every document."""
        from bloomery.data.expression import parse_keep

        kinds = dict.fromkeys((*self._columns(), "document.bytes"), "number")
        return parse_keep(self.keep, kinds | dict.fromkeys((f"document.{name}" for name in ABOUT if name not in ("text", "bytes")), "text"))

    def _left_out(self, funnel: Funnel, chunks: Chunks, log: Log) -> None:
        """The first steps of the funnel: what could not be read, what edits dropped and changed, and what signals failed on."""
        for reason, (documents, size, example) in chunks.reasons.items():
            funnel.outside(reason, documents, size, f"for example {example}" if example else "")
            if example:
                log.say(f"{documents} documents dropped as {reason}, for example {example}")
        if self.edits:
            funnel.outside("rewritten", *chunks.rewritten, "what edits changed: " + ", ".join(name for name, _ in self.named("edits")))
        for name, _ in self.named("signals"):
            if failed := {row: note for row, note in chunks.failed(name).items() if not funnel.codes[row]}:
                funnel.drop(f"{name} failed", failed)

    def _keep(self, funnel: Funnel, chunks: Chunks, condition: Any) -> None:
        """Drop what fails the condition, by its first failing clause."""
        import numpy as np

        if condition.clauses:
            named = {name: name.removeprefix("document.") for name in condition.columns}
            failed = np.full(len(chunks), -1, np.int16)
            for begin, table in chunks.slices(list(dict.fromkeys(named.values())) or ["bytes"]):
                values = {name: table.column(column).to_numpy() for name, column in named.items()} or {"": table.column("bytes").to_numpy()}
                failed[begin : begin + table.num_rows] = condition.failed(values)
            rows = funnel.rows
            for number, (clause, _) in enumerate(condition.clauses):
                funnel.drop(f"keep: {clause}", rows[failed[rows] == number])
        if not len(funnel.rows):
            worst = funnel.worst() or {"reason": "nothing", "documents": 0}
            knob, mend = ("keep", "loosen `keep`") if worst["reason"].startswith("keep:") else ("sources", "check the sources")
            total = sum(step["documents"] for step in funnel.steps)
            clause, number = worst["reason"].removeprefix("keep: "), worst["documents"]
            raise BadInput(f"{knob}: no documents are left: `{clause}` dropped most, {number} of {total}; {mend}")

    def _unique(self, funnel: Funnel, chunks: Chunks, job: Job) -> None:
        """Drop exact duplicates, then near ones."""
        import numpy as np

        from bloomery.data.duplicates import exact_duplicates, near_duplicates

        sizes, found = funnel.sizes, [np.zeros((2, 0), np.int64)]
        for rows, keys in chunks.repeated(funnel.rows, self.room(len(funnel.sizes)) // KEYS):
            found.append(rows[np.stack(exact_duplicates(keys, sizes[rows], chunks.ids.among(rows)[:]))])
        funnel.drop_copies("exact duplicate", *np.concatenate(found, axis=1))
        if self.near:
            rows = funnel.rows
            told = sizes[rows], chunks.ids.among(rows), self.room(len(funnel.sizes)), job.work, threads(), job.log
            copies = near_duplicates(chunks.signed(rows), lambda some: chunks.text_column(rows[some]), self.near, *told)
            note = f"Jaccard similarity {self.near} or more, or joined to it by such pairs"
            funnel.drop_copies("near duplicate", *(rows[side] for side in copies), note)

    def _clean(self, funnel: Funnel, chunks: Chunks, job: Job) -> None:
        """Cut passages that stand before, then drop what holds evaluation items."""
        from bloomery.stages._curate_clean import cut, decontaminate

        if self.substring:
            cut(self, funnel, chunks, job)
        if items := self._items(job.seed):
            decontaminate(funnel, chunks, items, self.leak_share, job.log)
        if not len(funnel.rows):
            raise BadInput("decontaminate: nothing is left: every document holds an evaluation item; check the sets, or raise leak_share")

    def _choose(self, funnel: Funnel, chunks: Chunks, job: Job) -> Any:
        """Weights of all rows by the selection, None without one; a weight of 0 drops."""
        import numpy as np

        if self.select is None:
            return None
        rows = funnel.rows
        budget, counted = parse_budget(self.budget, self._columns(), "budget")
        columns = chunks.columns([*(name for name in ABOUT if name != "text"), *self._columns()], rows)
        columns = ChainMap({"cost": _costs(columns[counted], self.budget)}, columns)
        if "text" in getattr(self.select, "reads", ()):
            columns = ChainMap({"text": chunks.texts(rows, job.work)}, columns)
        for need in self.vectors():
            columns = ChainMap({need: chunks.vectors(need, rows, self.room(len(funnel.sizes)))}, columns)
        chosen = np.asarray(self.select.weigh(columns, budget, job.rng.child("select")), np.float64)
        if chosen.shape != rows.shape or not np.all(chosen >= 0):
            raise BadInput(f"select: {self._select_name()} must give one weight of 0 or more per document")
        funnel.drop("not selected", rows[chosen == 0], f"{self._select_name()}, budget {self.budget}")
        if not np.any(chosen):
            raise BadInput(f"budget: {self.budget} selects no document; the smallest has {columns['cost'].min():.0f} {counted}")
        weights = np.zeros(len(chunks))
        weights[rows] = chosen
        return weights

    def _repeated(self, funnel: Funnel, train: Any, weights: Any, job: Job) -> Any:
        """The rows to train on as often as their weights say: a weight below 2 is once."""
        import numpy as np

        times = np.maximum(1, np.floor(weights[train]).astype(np.int64)) if weights is not None else np.ones(len(train), np.int64)
        more = int(times.sum()) - len(train)
        if more:
            size = int((funnel.sizes[train] * (times - 1)).sum())
            funnel.outside("repeated", -more, -size, f"{int((times > 1).sum())} documents, {int(times.max())} times at most")
            job.fact("repeated_documents", more)
            job.fact("repeated_bytes", size)
        return np.repeat(train, times)

    def _select_name(self) -> str:
        from bloomery.data.texts import method_name

        return method_name(self.select)

    def _split(self, funnel: Funnel, chunks: Chunks, job: Job) -> tuple[Any, Any]:
        """Rows to train on and rows held out; held-out documents with a near-copy among the former are dropped."""
        import numpy as np

        from bloomery.data.split import held_out
        from bloomery.data.streamed import nearest_streamed

        rows = funnel.rows
        packages, names = chunks.coded("package", rows)
        totals = np.bincount(packages, funnel.sizes[rows], len(names)).astype(np.int64)
        there = np.flatnonzero(np.bincount(packages, minlength=len(names)))
        chosen = held_out([names[k] for k in there], totals[there], self.heldout, job.rng.child("heldout"))
        out = np.array([name in chosen for name in names], bool)[packages]
        train, heldout = rows[~out], rows[out]
        if self.guard and len(heldout):
            best, where = nearest_streamed(chunks, heldout, train, self.guard, self.room(len(funnel.sizes)), job.log)
            ids, copies = chunks.ids, np.flatnonzero(best >= self.guard)
            notes = {int(heldout[k]): f"Jaccard similarity {best[k]:.3f} to {ids[train[where[k]]]}" for k in copies}
            funnel.drop("near-copy of training", notes, f"Jaccard similarity {self.guard} or more")
            heldout = np.delete(heldout, copies)
        return train, heldout


def _costs(values: Any, budget: str) -> Any:
    """What each document takes of the budget, rounded up to whole numbers. BadInput where one has no number, or less than nothing."""
    import numpy as np

    if odd := int((~(values >= 0)).sum()):
        raise BadInput(f"budget: {budget}: {odd} of {len(values)} documents have no number, or one below 0, in that column; count another")
    return np.ceil(values)
