"""Evaluate: what a model is worth on text it has not seen, beside compressors and an n-gram model of the same training text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from bloomery.core.errors import BadInput, Interrupted
from bloomery.core.files import files_below, write_json
from bloomery.core.job import Forecast
from bloomery.core.machine import threads
from bloomery.data.questions import read_questions
from bloomery.seams import Filter, Item, Rng, Rollout, Source, Task
from bloomery.stages import _evaluate_forecast, _evaluate_harness
from bloomery.stages._evaluate_sources import contaminated, conversations, held_out, judged, short_items, trained_on, trained_sample
from bloomery.tools.needs import bound

if TYPE_CHECKING:
    from bloomery.core.job import Job
    from bloomery.core.machine import Machine
    from bloomery.core.store import Artifact
    from bloomery.infer.answers import Examinee
    from bloomery.infer.guide import Guide
    from bloomery.infer.harness_tasks import Measured
    from bloomery.infer.rivals import Bits
    from bloomery.tools.local import LocalTools

SAMPLES = 6  # completions of each task kept for reading
BEFORE, PLAIN = "before", "before, plain text"  # subjects: the model compared with, by the chat template and in ordinary text
ENDINGS = {"model": "", BEFORE: ".before", PLAIN: ".before-plain"}  # of the names of files, by subject
WRITTEN_TOGETHER = 32  # completions side by side

Asked = dict[str, tuple[Task, list[Item]]]


@dataclass(frozen=True)
class Evaluate:
    """Measure a model on held-out text and conversations, against compressors, an n-gram model or another model, with intervals."""

    model: Annotated[Artifact, "model"]  # what is measured
    corpus: Annotated[Artifact | None, "corpus"] = None  # whose held-out documents are asked; its training documents must not hold them
    tokens: Annotated[Artifact | None, "tokens"] = None  # whose training tokens the n-gram model is fitted on
    chats: Annotated[Artifact | None, "*"] = None  # whose held-out conversations are asked: a chats artifact, or a tuned model's own
    questions: Annotated[Artifact | None, "*"] = None  # JSON lines that tasks ask from, a file or a folder of files
    against: Annotated[Artifact | None, "model"] = None  # another model asked the same, such as the one before tuning; same tokens
    tasks: tuple[Task, ...] = ("bits_per_byte", "parses", "next_line")  # what is asked
    filters: tuple[Filter, ...] = ()  # how completions are sampled; none: greedy
    follow: dict | None = None  # what every completion looks like: {json: SCHEMA}, {regex: TEXT} or {grammar: TEXT}
    rollout: Rollout = "single"  # how an item is answered: once, or the best of what a strategy gives
    thought: str = ""  # what ends a reasoning trace, such as </think>; up to its last occurrence a completion is no answer
    lm_eval: tuple[str, ...] = ()  # tasks of lm-evaluation-harness by name, asked and counted as it does it
    lm_eval_folder: Annotated[Artifact | None, "*"] = None  # further tasks of its kind, YAML with their data; code that it names is run
    lm_eval_shots: int | None = None  # examples before each of its questions; none said: as each task has it
    lm_eval_limit: int | None = None  # items of each of its tasks at most, the first ones
    lm_eval_chat: bool = False  # its questions are laid out by the chat template, examples as turns
    roles: Annotated[dict[str, Artifact] | None, "model"] = None  # models that tasks, rollout and filters read, such as {judge: $judge}
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
        if min(one if one is not None else 1 for one in (self.lm_eval_shots, self.lm_eval_limit)) < 0 or self.lm_eval_limit == 0:
            raise ValueError("lm_eval_shots must be at least 0 and lm_eval_limit at least 1")
        if not self.filters and (alike := next((type(one).__name__ for one in self.tasks if getattr(one, "samples", 1) > 1), "")):
            raise ValueError(f"greedy samples of {alike} are all the same; name filters, such as temperature, or leave samples at 1")
        if self.follow is not None and (len(self.follow) != 1 or not set(self.follow) <= {"json", "regex", "grammar"}):
            raise ValueError("follow must be one of {json: SCHEMA}, {regex: TEXT} and {grammar: TEXT}")
        if self.follow is not None and self.lm_eval:
            raise ValueError("follow is for tasks; those of lm_eval ask in their own way, so leave one of them out")
        if not 0 < self.copied <= 1:
            raise ValueError(f"copied must be above 0 and at most 1, got {self.copied}")

    def mode(self) -> dict:
        """Scores are computed in fp32; the number of threads may change their last digit."""
        return {"precision": "float32", "threads": threads()}

    def forecast(self, inputs: dict[str, Forecast], machine: Machine) -> Forecast:
        """Refuse unbound roles and a missing lm-eval; then what is asked, and how long that takes."""
        bound((self.rollout, *self.tasks), self.roles or {})
        if self.lm_eval:
            _evaluate_harness.demand()
        return _evaluate_forecast.forecast(self, inputs, machine, WRITTEN_TOGETHER)

    # ---- run

    def run(self, job: Job) -> None:
        """Ask the model, the one compared with, and rivals; look for contamination; write the scores. Finished items survive a kill."""
        from bloomery.infer.answers import graded
        from bloomery.infer.scores import change_rows, rival_rows, rows_of

        seats = self._seats()
        examinee = seats["model"]
        source = self._source(examinee, job.rng)
        asked = self._asked(source, job.rng)
        tools = self._tools(job)
        with job.graceful():
            harness = _evaluate_harness.ask(self, seats, ENDINGS, WRITTEN_TOGETHER, job) if self.lm_eval else {}
            told = {subject: self._told(subject, seat, source, asked, tools, job) for subject, seat in seats.items()}
            rivals = {name: self._rivals(name, items, job) for name, (task, items) in asked.items() if compares(task)}
        speed = self._speed(examinee, asked) if self.batch and asked else []
        trained = trained_on((self.corpus, self.chats), (self.model, self.against), job.store)
        others = _evaluate_harness.texts(harness)
        with job.log.progress("training text", unit="documents") as bar:
            seen = contaminated(asked, others, trained, self.copied, bar)

        scores = _evaluate_harness.scores(harness, seen, self, job)
        for name, (task, items) in asked.items():
            rng = job.rng.child("summary", name)
            rows = {subject: each[name] for subject, each in told.items() if name in each}
            answers = {subject: [graded(item, row) for item, row in zip(items, found, strict=True)] for subject, found in rows.items()}
            for subject, found in answers.items():
                conditions = self._conditions(task, items, examinee.model.net.cfg.context, subject == PLAIN) + counted(rows[subject])
                rows_found = rows_of(name, task, found, seen[name], rng, subject, conditions)
                scores += [one for one in rows_found if subject == "model" or one["subject"] == subject]  # what is no model's stands once
            for subject in [one for one in answers if one != "model"]:
                scores += change_rows(name, task, answers["model"], answers[subject], subject, seen[name], rng)
            for rival in rivals.get(name, ()):
                scores += rival_rows(name, task, answers["model"], rival, seen[name], rng)
        short = short_items(asked, others)
        scores = [judged(one, asked, trained, short) for one in scores]
        job.fact("training_text", trained.facts())
        if trained.note():
            job.log.say(trained.note())
        if tools.counts:
            job.fact("tools", tools.counts)
        if late := tools.counts.get("run", {}).get("out_of_time"):
            job.log.say(f"{late} programs met their time limit and count as failed; a machine that was busy then may be to blame")
        self._write(job, asked, told, harness, seen, scores + speed + self._sizes())

    def _seats(self) -> dict[str, Examinee]:
        """Who is asked, by subject; the model compared with is asked conversations by the same template, and in plain text."""
        from bloomery.infer.answers import Examinee
        from bloomery.infer.sound import load

        roles = {role: made.folder for role, made in (self.roles or {}).items()}
        model = load(self.model.folder, roles=roles, filters=self.filters)
        if self.chats is not None and model.template is None:
            raise BadInput(f"chats: {self.model.name} has no chat template; tune it on conversations first")
        if self.against is None:
            return {"model": Examinee(model, thought=self.thought, guide=self._guide())}
        other = load(self.against.folder, roles=roles, filters=self.filters)
        if other.net.cfg.vocab != model.net.cfg.vocab or other.tokenizer.get_vocab() != model.tokenizer.get_vocab():
            raise BadInput(f"against: {self.against.name} has other tokens than {self.model.name}; compare models of one tokenizer")
        other.template = model.template
        other.decoder.stop_ids |= model.decoder.stop_ids
        seats = {subject: Examinee(one, False, self.thought, self._guide()) for subject, one in (("model", model), (BEFORE, other))}
        return {**seats, PLAIN: Examinee(other, True, self.thought, self._guide())}

    def _guide(self) -> Guide | None:
        """What completions follow."""
        from bloomery.infer.guide import Guide

        if self.follow is None:
            return None
        ((kind, what),) = self.follow.items()
        return Guide.schema(what) if kind == "json" else Guide(kind, str(what))

    def _source(self, examinee: Examinee, rng: Rng) -> Source:
        """What tasks make their items of."""
        trained = trained_sample(self.corpus, rng.child("trained")) if any(getattr(task, "trained", False) for task in self.tasks) else []
        about: dict[str, Any] = {}
        if self.questions is not None:
            folder = self.questions.folder
            about = {"questions": read_questions(folder), "folder": folder if folder.is_dir() else folder.parent}
        return Source(examinee.model.net, examinee.tokenizer, held_out(self.corpus), conversations(self.chats), trained, **about)

    def _asked(self, source: Source, rng: Rng) -> Asked:
        """Every task by name with its items; a task that finds none is left out, and it is an error where none finds any."""
        asked = {name: (task, list(task.items(source, rng.child("items", name)))) for name, task in named(self.tasks).items()}
        for name, (task, items) in asked.items():
            if task.subject != "model":
                raise BadInput(f"the task {name} measures a {task.subject}, and evaluate measures a model; leave it out")
            if twice := [one for one, count in Counter(item.id for item in items).items() if count > 1]:
                raise BadInput(f"the task {name} gives the id {twice[0]!r} to more than one item; ids must differ")
        if not any(items for _, items in asked.values()) and not self.lm_eval:
            given = [one for one in (self.corpus, self.chats, self.questions) if one]
            texts = " and ".join(one.name for one in given) or "neither corpus nor chats nor questions"
            mend = "hold out more, or name `corpus`, `chats` or `questions`"
            raise BadInput(f"{texts} holds nothing held out that {', '.join(asked)} can ask about; {mend}")
        return {name: one for name, one in asked.items() if one[1]}

    def _tools(self, job: Job) -> LocalTools:
        """Other models by role, and the sandbox; replies survive a kill."""
        from bloomery.tools.local import LocalTools

        return LocalTools({role: made.folder for role, made in (self.roles or {}).items()}, job.work / "replies")

    def _told(
        self, subject: str, seat: Examinee, source: Source, asked: Asked, tools: LocalTools, job: Job
    ) -> dict[str, list[dict[str, Any]]]:
        """What is kept of every answer, by task. In plain text only conversations are asked: all else is plain already."""
        from bloomery.infer.exam import ask
        from bloomery.infer.sampler import Sampler

        told, libraries = {}, {name: task.library(source) for name, (task, _) in asked.items() if hasattr(task, "library")}
        for name, (task, items) in asked.items():
            if subject != PLAIN or any(item.messages for item in items):
                file, rng = job.work / "items" / f"{name}{ENDINGS[subject]}.jsonl", job.rng.child("answers", name)
                label = name if subject == "model" else f"{name}, {subject}"
                engine, tools.grader = Sampler(seat, self.filters, WRITTEN_TOGETHER), partial(task.grade, tools=tools)
                tools.library = libraries.get(name, {})
                told[name] = ask(engine, self.rollout, tools, label, task, items, file, job, rng)
        return told

    def _rivals(self, name: str, items: Sequence[Item], job: Job) -> list[Bits]:
        """Bits of the same texts under each rival."""
        from bloomery.data.journal import Journal
        from bloomery.infer import rivals

        if self.tokens is None and "ngram" in self.rivals:
            job.log.say("no n-gram model: `tokens` names nothing that it could be fitted on")
        texts, journal = [item.target for item in items], Journal(job.work / "rivals" / f"{name}.jsonl")
        chosen = [rival for rival in self.rivals if rival != "ngram" or self.tokens is not None]
        for rival in chosen:
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
        return [rivals.Bits(**one) for rival in chosen for one in journal.rows[rival]["found"]]

    def _conditions(self, task: Task, items: Sequence[Item], context: int, plain: bool) -> str:
        """How the model was asked, for the score's note."""
        way = "in plain text" if plain or not items[0].messages else "by the chat template"
        if items[0].messages and items[0].want == "score":
            return f"fp32; the question {way}, the answer's tokens without its end"
        if compares(task):
            return f"fp32; the end token counts; every {context} tokens of a document start anew"
        if items[0].want == "score":
            return "fp32; the likelihood of each text after its prompt, in plain text"
        how = ", ".join(map(repr, self.filters)) or "greedy"
        how += f"; completions follow {self.follow!r}" if self.follow else ""
        how += "" if type(self.rollout).__name__ == "Single" else f"; {self.rollout!r}"
        how += f"; {task.samples} samples, k {task.k}" if getattr(task, "samples", 1) > 1 else ""
        prompt = f"asked {way}" if items[0].messages or not hasattr(task, "prompt") else f"prompt of at most {task.prompt} tokens"
        return f"{how}; {prompt}, completion of at most {max(item.limit for item in items)}"

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
        adapter = self.model.path("adapter_config.json").is_file()  # its few weights are not those that the parameters count
        if (parameters := self.model.facts.get("parameters")) and not adapter:
            rows.append(row("size", "weight_bits_per_parameter", "model", 8 * weights / parameters, unit="bits", better="lower"))
        return rows

    def _write(
        self, job: Job, asked: Asked, told: dict[str, dict[str, list[dict]]], harness: dict[str, dict[str, Measured]],
        seen: dict[str, set[str]], scores: list[dict[str, Any]],
    ) -> None:  # fmt: skip
        """scores.json, samples.jsonl, items/<task>.jsonl, and the model's own figures as facts."""
        write_json(job.out / "scores.json", {"scores": scores})
        (job.out / "items").mkdir()
        samples: list[dict[str, Any]] = []
        kept = {subject: {_evaluate_harness.AHEAD + name: list(one.items.values()) for name, one in found.items() if one.items}
                for subject, found in harness.items()}  # fmt: skip
        for subject, ending in ENDINGS.items():
            for name, rows in {**kept.get(subject, {}), **told.get(subject, {})}.items():
                lines = [{**row, "contaminated": row["id"] in seen[name]} for row in rows]
                write_lines(job.out / "items" / f"{name.replace('/', '_')}{ending}.jsonl", lines)
        for name, (_, items) in asked.items():
            samples += sampled(name, items, told)
        write_lines(job.out / "samples.jsonl", samples)
        for one in scores:
            if one["subject"] == "model" and one["value"] is not None and not one["task"].startswith(_evaluate_harness.AHEAD):
                second = one["task"] in asked and one["task"] != type(asked[one["task"]][0]).__module__.rpartition(".")[2]
                job.fact(f"{one['task']}.{one['metric']}" if second else one["metric"], one["value"])
        job.fact("truncated", {name: sum(row["dropped"] > 0 for row in rows) for name, rows in told.get("model", {}).items()})
        if self.thought:
            traces = {name: sum(row.get("thought", 0) > 0 for row in rows) for name, rows in told.get("model", {}).items()}
            job.fact("reasoning_traces", traces)
        if harness:
            job.fact("lm_eval", _evaluate_harness.facts(harness))
        job.fact("items", {name: len(items) for name, (_, items) in asked.items()})
        job.fact("tokens", sum(row["prompt_tokens"] + row["tokens"] for rows in told.get("model", {}).values() for row in rows))
        job.fact("contaminated", {name: len(ids) for name, ids in seen.items()})
        job.fact("left_out", [name for name in named(self.tasks) if name not in asked])

    # ---- check

    def check(self, made: Path, job: Job) -> None:
        """Every item was graded once; some are computed again alone, and by a forward pass without packing or cache."""
        from bloomery.infer.exam import choice_gap, kept_nats, round_trip, sample, scored_again, worst

        examinee = self._seats()["model"]
        if self.lm_eval:
            _evaluate_harness.check(self, examinee, made, job)
        lossy, alone, plain, choice = 0, 0.0, 0.0, 0.0
        for name, (_, items) in self._asked(self._source(examinee, job.rng), job.rng).items():
            rows = read_lines(made / "items" / f"{name}.jsonl")
            differ = Counter(item.id for item in items) - Counter(row["id"] for row in rows)
            job.check(f"{name}: items without an episode, or episodes too many", differ.total() + abs(len(rows) - len(items)), 0)
            lossy += sum(not round_trip(examinee, item) for item in items if item.want == "score")
            again, by_id = sample(items), {row["id"]: row for row in rows}
            for item, row in [(item, by_id[item.id]) for item in items if item.id in again and item.id in by_id]:
                if item.want == "score" and kept_nats(row) is not None:
                    found = scored_again(examinee, item, row)
                    alone, plain = worst(alone, found[0]), worst(plain, found[1])
                elif item.want == "generate" and not self.filters and row["ids"] and not row["dropped"]:
                    choice = worst(choice, choice_gap(examinee, item, row["ids"]))
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


def counted(rows: Sequence[Mapping[str, Any]]) -> str:
    """What a score's note says of prompts that were cut at the left, and of reasoning traces that were taken off; nothing of none."""
    cut, traces = sum(row["dropped"] > 0 for row in rows), sum(row.get("thought", 0) > 0 for row in rows)
    said = [f"; {cut} of {len(rows)} prompts cut at the left"] if cut else []
    return "".join(said + ([f"; {traces} of {len(rows)} replies held a reasoning trace, taken off"] if traces else []))


def sampled(name: str, items: Sequence[Item], told: dict[str, dict[str, list[dict]]]) -> list[dict[str, Any]]:
    """Some completions of a task for reading, with those of the model compared with, asked in the way that suits it better."""
    found = []
    other = told.get(PLAIN, {}).get(name) or told.get(BEFORE, {}).get(name)
    for number, (item, row) in enumerate(zip(items, told["model"][name], strict=True)):
        if item.want == "generate" and len(found) < SAMPLES:
            prompt = "\n".join(text for _, text in item.messages) if item.messages else item.prompt
            about = {"completion": row["text"], "reference": item.target, "grade": row["score"]}
            if other:
                how = "in plain text" if item.messages else "alike"
                about["before"] = {"completion": other[number]["text"], "grade": other[number]["score"], "asked": how}
            found.append({"task": name, "id": item.id, "kind": item.kind, "prompt": prompt, **about})
    return found


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
