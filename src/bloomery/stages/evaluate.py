"""Evaluate: what a model is worth on text it has not seen, beside compressors and an n-gram model of the same training text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from bloomery.core.errors import BadInput, Interrupted
from bloomery.core.files import files_below, write_json
from bloomery.core.job import Forecast
from bloomery.core.machine import threads
from bloomery.seams import Doc, Filter, Item, Rng, Source, Task

if TYPE_CHECKING:
    from bloomery.core.job import Job
    from bloomery.core.machine import Machine
    from bloomery.core.store import Artifact
    from bloomery.infer.answers import Examinee
    from bloomery.infer.rivals import Bits

SCORED_TOGETHER = 1 << 16  # characters of scored text in one batch, about; a batch is what a kill can cost
WRITTEN_TOGETHER = 32  # completions in one batch
SAMPLES = 6  # completions of each task kept for reading
CHECKED = 3  # items of each task computed once more in another way

Asked = dict[str, tuple[Task, list[Item]]]


@dataclass(frozen=True)
class Evaluate:
    """Measure a model on held-out text, against compressors and an n-gram model, with intervals."""

    model: Annotated[Artifact, "model"]  # what is measured
    corpus: Annotated[Artifact, "corpus"]  # whose held-out documents are asked, and whose training documents must not hold them
    tokens: Annotated[Artifact, "tokens"]  # whose training tokens the n-gram model is fitted on
    tasks: tuple[Task, ...] = ("bits_per_byte", "parses", "next_line")  # what is asked
    filters: tuple[Filter, ...] = ()  # how completions are sampled; none: greedy
    rivals: tuple[str, ...] = ("gzip", "xz", "ngram")  # what bits per byte are compared with
    order: int = 5  # of the n-gram model
    ngram_tokens: int = 20_000_000  # training tokens that the n-gram model is fitted on at most
    copied: float = 0.8  # an item of which this share of 13-word runs stands in training text counts as contaminated
    batch: int = 16  # prompts side by side in the second measurement of speed; 0: speed is not measured
    makes: ClassVar[str] = "scores"
    needs: ClassVar[tuple] = ("torch",)

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.rivals) - {"gzip", "xz", "ngram"}):
            raise ValueError(f"rivals must be among gzip, xz and ngram, got {', '.join(unknown)}")
        if self.order < 1 or self.ngram_tokens < 1 or self.batch < 0:
            raise ValueError("order and ngram_tokens must be at least 1, and batch at least 0")
        if not 0 < self.copied <= 1:
            raise ValueError(f"copied must be above 0 and at most 1, got {self.copied}")

    def mode(self) -> dict:
        """Scores are computed in fp32; the number of threads may change their last digit."""
        return {"precision": "float32", "threads": threads()}

    def forecast(self, inputs: dict[str, Forecast], machine: Machine) -> Forecast:
        """Forward passes over the text asked for, completions, compressors, the n-gram model; rates as measured on two cores."""
        facts = {name: found.facts for name, found in inputs.items()}
        parameters = facts["model"].get("parameters") or 5e6
        per_byte = 1 / (facts["tokens"].get("bytes_per_token") or 3.0)
        held_out = facts["corpus"].get("heldout_bytes") or 1e6
        text = sum(min(getattr(task, "bytes", 0), held_out) for task in self.tasks)
        steps = sum(getattr(task, "count", 0) * getattr(task, "limit", 0) / WRITTEN_TOGETHER for task in self.tasks)
        read = sum(getattr(task, "count", 0) * getattr(task, "prompt", 0) for task in self.tasks)
        flops = 2 * parameters * (text * per_byte + read + steps * WRITTEN_TOGETHER)
        fitted = min(self.ngram_tokens, facts["tokens"].get("train_tokens") or 0) * ("ngram" in self.rivals)
        seconds = flops / (0.3 * machine.matmul_flops.get("float32", 1e11)) + 0.008 * steps + 5e-7 * fitted
        seconds += 6e-6 * text * ("xz" in self.rivals) + 3 * (self.batch > 0) + 6
        return Forecast(seconds, memory=8e8 + 8 * parameters + 80 * fitted, disk=1e6 + 200 * steps, facts={"flops": flops})

    # ---- run

    def run(self, job: Job) -> None:
        """Ask the model, ask its rivals, look for contamination, write the scores. Finished items survive a kill."""
        from bloomery.infer.answers import Examinee, graded
        from bloomery.infer.model import load
        from bloomery.infer.scores import rival_rows, rows_of

        examinee = Examinee(load(self.model.folder))
        asked = self._asked(examinee, job.rng)
        with job.graceful():
            told = {name: self._ask(examinee, name, task, items, job) for name, (task, items) in asked.items()}
            rivals = {name: self._rivals(name, items, job) for name, (task, items) in asked.items() if compares(task)}
        speed = self._speed(examinee, asked) if self.batch else []
        seen = self._contaminated(asked, job)

        scores: list[dict[str, Any]] = []
        for name, (task, items) in asked.items():
            rng = job.rng.child("summary", name)
            mine = [graded(item, row) for item, row in zip(items, told[name], strict=True)]
            scores += rows_of(name, task, mine, seen[name], rng, "model", self._conditions(task, examinee.model.net.cfg.context))
            for rival in rivals.get(name, ()):
                scores += rival_rows(name, task, mine, rival, seen[name], rng)
        self._write(job, asked, told, seen, scores + speed + self._sizes())

    def _asked(self, examinee: Examinee, rng: Rng) -> Asked:
        """Every task by name with its items; a task that finds none is left out, and it is an error where none finds any."""
        source = Source(examinee.model.net, examinee.tokenizer, held_out(self.corpus))
        asked = {name: (task, list(task.items(source, rng.child("items", name)))) for name, task in named(self.tasks).items()}
        for name, (task, items) in asked.items():
            if task.subject != "model":
                raise BadInput(f"the task {name} measures a {task.subject}, and evaluate measures a model; leave it out")
            if twice := [one for one, count in Counter(item.id for item in items).items() if count > 1]:
                raise BadInput(f"the task {name} gives the id {twice[0]!r} to more than one item; ids must differ")
        if not any(items for _, items in asked.values()):
            raise BadInput(f"{self.corpus.name} holds no held-out document that {', '.join(asked)} can ask about; hold out more")
        return {name: one for name, one in asked.items() if one[1]}

    def _ask(self, examinee: Examinee, name: str, task: Task, items: Sequence[Item], job: Job) -> list[dict[str, Any]]:
        """What is kept of every item's answer. Batches are fixed beforehand, so that a resumed run computes the same numbers."""
        from bloomery.data.journal import Journal
        from bloomery.infer.answers import kept

        journal = Journal(job.work / "items" / f"{name}.jsonl")
        with job.log.progress(name, total=len(items), unit="items") as bar:
            for number, batch in enumerate(batches(items)):
                if job.stopping:
                    raise Interrupted(f"stopped after {len(journal.rows)} of {len(items)} items of {name}; run again to go on from there")
                if not all(item.id in journal for item in batch):
                    found = examinee.answers(batch, self.filters, job.rng.child("answers", name, number), WRITTEN_TOGETHER)
                    journal.add([kept(item, one, task.grade(item, one.episode, None)) for item, one in zip(batch, found, strict=True)])
                bar.advance(len(batch))
        return [journal.rows[item.id] for item in items]

    def _rivals(self, name: str, items: Sequence[Item], job: Job) -> list[Bits]:
        """Bits of the same texts under each rival."""
        from bloomery.data.journal import Journal
        from bloomery.infer import rivals

        texts, journal = [item.target for item in items], Journal(job.work / "rivals" / f"{name}.jsonl")
        for rival in self.rivals:
            if job.stopping:
                raise Interrupted(f"stopped before {rival}; run again to go on from there")
            if rival not in journal:
                with job.log.progress(rival, total=len(texts), unit="documents") as bar:
                    if rival == "ngram":
                        found = rivals.ngram(texts, self.tokens.folder, self.order, self.ngram_tokens)
                    else:
                        found = rivals.compressed(rival, texts, job.executor)
                    journal.add([{"id": rival, "found": [vars(one) for one in found]}])
                    bar.advance(len(texts))
        return [rivals.Bits(**one) for rival in self.rivals for one in journal.rows[rival]["found"]]

    def _contaminated(self, asked: Asked, job: Job) -> dict[str, set[str]]:
        """By task, the ids of items whose text stands in training documents; the whole training text is read."""
        import pyarrow.parquet as pq

        from bloomery.data.overlap import seen_shares

        texts = [f"{item.prompt}\n{item.target}" for _, items in asked.values() for item in items]
        with job.log.progress("training text", unit="documents") as bar, pq.ParquetFile(self.corpus.path("train.parquet")) as train:

            def groups() -> Iterator[list[str]]:
                for batch in train.iter_batches(512, columns=["text"]):
                    yield batch.column(0).to_pylist()
                    bar.advance(len(batch))

            shares = iter(seen_shares(texts, groups()).tolist())
        return {name: {item.id for item in items if next(shares) >= self.copied} for name, (_, items) in asked.items()}

    def _conditions(self, task: Task, context: int) -> str:
        """How the model was asked, for the score's note."""
        if compares(task):
            return f"fp32; the end token counts; every {context} tokens of a document start anew"
        how = ", ".join(map(repr, self.filters)) or "greedy"
        return f"{how}; prompt of at most {getattr(task, 'prompt', '?')} tokens, completion of at most {getattr(task, 'limit', '?')}"

    def _speed(self, examinee: Examinee, asked: Asked) -> list[dict[str, Any]]:
        """Prompt and decode tokens per second, one prompt and a batch."""
        from bloomery.infer.scores import row
        from bloomery.infer.speed import speeds

        items = next(iter(asked.values()))[1]
        ids = examinee.tokenizer.encode("\n".join(item.prompt + item.target for item in items[:8]))
        rows = []
        for size in sorted({1, self.batch}):
            found = speeds(examinee.model.decoder, ids, size)
            note = f"{found['prompt_tokens']:.0f} tokens read, {found['new_tokens']:.0f} written, fp32, {threads()} threads, fastest of 3"
            for kind in ("prompt", "decode"):
                about = {"n": 3, "unit": "tokens/s", "better": "higher", "note": note}
                rows.append(row("speed", f"{kind}_tokens_per_second", f"model, batch {size}", found[kind], **about))
        return rows

    def _sizes(self) -> list[dict[str, Any]]:
        """Bytes of the weights' files and of the whole artifact, and bits per parameter on disk."""
        from bloomery.infer.scores import row

        sizes = {file: file.stat().st_size for file in files_below(self.model.folder)}
        weights, whole = sum(size for file, size in sizes.items() if file.suffix == ".safetensors"), sum(sizes.values())
        rows = [
            row("size", "weights_on_disk", "model", weights, unit="bytes", better="lower", note="safetensors files"),
            row("size", "artifact_on_disk", "model", whole, unit="bytes", better="lower", note="all files, logs and curve included"),
        ]
        if parameters := self.model.facts.get("parameters"):
            rows.append(row("size", "weight_bits_per_parameter", "model", 8 * weights / parameters, unit="bits", better="lower"))
        return rows

    def _write(self, job: Job, asked: Asked, told: dict[str, list[dict]], seen: dict[str, set[str]], scores: list[dict[str, Any]]) -> None:
        """scores.json, samples.jsonl, items/<task>.jsonl, and the model's own figures as facts."""
        write_json(job.out / "scores.json", {"scores": scores})
        (job.out / "items").mkdir()
        samples: list[dict[str, Any]] = []
        for name, (_, items) in asked.items():
            rows = [{**row, "contaminated": row["id"] in seen[name]} for row in told[name]]
            write_lines(job.out / "items" / f"{name}.jsonl", rows)
            for item, row in [(item, row) for item, row in zip(items, rows, strict=True) if item.want == "generate"][:SAMPLES]:
                about = {"completion": row["text"], "reference": item.target, "grade": row["score"]}
                samples.append({"task": name, "id": item.id, "prompt": item.prompt, **about})
        write_lines(job.out / "samples.jsonl", samples)
        for one in scores:
            if one["subject"] == "model" and one["value"] is not None:
                job.fact(one["metric"], one["value"])
        job.fact("items", {name: len(items) for name, (_, items) in asked.items()})
        job.fact("contaminated", {name: len(ids) for name, ids in seen.items()})
        job.fact("left_out", [name for name in named(self.tasks) if name not in asked])

    # ---- check

    def check(self, made: Path, job: Job) -> None:
        """Every item was graded once; some are computed again alone, and by a forward pass without packing or cache."""
        from bloomery.infer.answers import Examinee
        from bloomery.infer.model import load

        examinee = Examinee(load(self.model.folder))
        lossy, alone, plain, choice = 0, 0.0, 0.0, 0.0
        for name, (_, items) in self._asked(examinee, job.rng).items():
            rows = read_lines(made / "items" / f"{name}.jsonl")
            differ = Counter(item.id for item in items) - Counter(row["id"] for row in rows)
            job.check(f"{name}: items without an episode, or episodes too many", differ.total() + abs(len(rows) - len(items)), 0)
            lossy += sum(not round_trip(examinee, item) for item in items if item.want == "score")
            again, by_id = sample(items), {row["id"]: row for row in rows}
            for item, row in [(item, by_id[item.id]) for item in items if item.id in again and item.id in by_id]:
                if item.want == "score" and "bits" in row["parts"]:
                    found = scored_again(examinee, item, row)
                    alone, plain = max(alone, found[0]), max(plain, found[1])
                elif item.want == "generate" and not self.filters and row["ids"] and not row["dropped"]:
                    choice = max(choice, choice_gap(examinee, item, row["ids"]))
        job.check("scored texts that tokens do not give back", lossy, 0)
        job.check("scored alone against in a batch, nats per token", alone, 1e-4)
        job.check("scored by a plain forward pass against in a batch, nats per token", plain, 1e-4)
        job.check("greedy choices below the best logit of a plain forward pass", choice, 1e-3, note="without packing, padding or cache")


def compares(task: Task) -> bool:
    """Whether rivals can be measured by the same task."""
    return "bits_per_byte" in getattr(task, "metrics", {})


def named(tasks: Sequence[Task]) -> dict[str, Task]:
    """Tasks by the name of their file; a second one of a kind gets a number."""
    found: dict[str, Task] = {}
    for task in tasks:
        name = type(task).__module__.rpartition(".")[2]
        same = sum(type(other) is type(task) for other in found.values())
        found[f"{name}_{same + 1}" if same else name] = task
    return found


def held_out(corpus: Artifact) -> list[Doc]:
    """The held-out documents, in file order."""
    import pyarrow.parquet as pq

    table = pq.read_table(corpus.path("heldout.parquet"), columns=["id", "text", "path", "package"])
    return [Doc(row["id"], row["text"], {"path": row["path"], "package": row["package"]}) for row in table.to_pylist()]


def batches(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Items in order, scored ones by characters and completions by number."""
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) >= WRITTEN_TOGETHER if item.want == "generate" else sum(len(one.target) for one in batch) >= SCORED_TOGETHER:
            yield batch
            batch = []
    if batch:
        yield batch


def sample(items: Sequence[Item]) -> set[str]:
    """Ids of a short, a middling and a longer item, none of the longest."""
    ordered = sorted(items, key=lambda item: (len(item.prompt) + len(item.target), item.id))
    return {ordered[len(ordered) * k // 4].id for k in range(CHECKED)}


def round_trip(examinee: Examinee, item: Item) -> bool:
    """Whether the tokens of a scored text give the text back: bits of another text would be worth nothing."""
    return examinee.tokenizer.decode(examinee.tokenizer.encode(item.target)) == item.target


def scored_again(examinee: Examinee, item: Item, row: dict[str, Any]) -> tuple[float, float]:
    """Differences in nats per token from the score kept: of the item scored alone, and of plain forward passes."""
    import math

    import torch

    (ids, start), step, model = examinee.document(item), examinee.model.net.cfg.context, examinee.model
    kept = -row["parts"]["bits"] * math.log(2)
    alone = float(model.score([ids])[0][start - 1 :].astype("float64").sum())
    plain = 0.0
    for at in range(0, len(ids) - 1, step):
        given, wanted = ids[at : at + step], torch.tensor(ids[at + 1 : at + step + 1])
        logp = model.logits(given[: len(wanted)]).double().log_softmax(-1).gather(-1, wanted[:, None])[:, 0]
        plain += float(logp[max(0, start - 1 - at) :].sum())
    return abs(kept - alone) / row["tokens"], abs(kept - plain) / row["tokens"]


def choice_gap(examinee: Examinee, item: Item, ids: Sequence[int]) -> float:
    """How far below the best logit the tokens written stand at most, by one forward pass over prompt and completion."""
    import torch

    prompt = examinee.prompt(item)
    logits = examinee.model.logits([*prompt, *ids[:-1]])[len(prompt) - 1 :]
    chosen = logits.gather(-1, torch.tensor(ids)[:, None])[:, 0]
    return float((logits.max(-1).values - chosen).max())


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
