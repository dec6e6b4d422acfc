"""Synthesize: the documents of a corpus become conversations, and what was held out stays held out."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from bloomery.core.errors import BadInput
from bloomery.core.job import Forecast
from bloomery.core.rng import digest
from bloomery.data.chat.read import Conversation
from bloomery.data.documents import TROUBLE
from bloomery.seams import Doc, Drop, Edit, Rng
from bloomery.tools.needs import bound

if TYPE_CHECKING:
    from bloomery.core.job import Job
    from bloomery.core.machine import Machine
    from bloomery.core.store import Artifact

PARTS = ("train", "heldout")
CHUNK = 24  # documents that one worker takes at a time
SPEED = 2.2e6  # bytes of documents a second and core, measured with code_pairs
YIELD, SIZE = 9e-4, 270  # conversations per byte of Python code, bytes of one; measured
COUNTS = "counts.json"


@dataclass(frozen=True)
class Synthesize:
    """Make conversations from the documents of a corpus, part by part."""

    corpus: Annotated[Artifact, "corpus"]  # the documents
    edits: tuple[Edit, ...] = ("code_pairs",)  # what makes conversations; each is given every document
    each: int = 0  # conversations of a kind and part at most, drawn at random; 0 = all
    balanced: bool = False  # no more conversations of a kind to train on than the rarest kind has
    makes: ClassVar[str] = "chats"

    def __post_init__(self) -> None:
        if not self.edits and self.edits is not None:
            raise ValueError("edits must name at least one method, such as code_pairs")
        if self.each < 0:
            raise ValueError(f"each must not be negative, got {self.each}")

    def forecast(self, inputs: dict[str, Forecast], machine: Machine) -> Forecast:
        """From the bytes of the corpus, and what was measured on Python code."""
        bound(self.edits, ())
        facts, made = inputs["corpus"].facts, {}
        sizes = {part: float(facts.get(f"{part}_bytes") or 0) for part in PARTS}
        for part, size in sizes.items():
            count = min(size * YIELD, 3.0 * self.each if self.each else size)
            made |= {f"{part}_conversations": count, f"{part}_bytes": SIZE * count}
        made |= {unit: sum(made[f"{part}_{unit}"] for part in PARTS) for unit in ("conversations", "bytes")}
        seconds = 2 + sum(sizes.values()) / SPEED / max(1, min(machine.cores, 16))
        return Forecast(seconds, 4e8 + 4 * made["bytes"] + 1e8 * machine.cores, 0.7 * made["bytes"], made)

    def run(self, job: Job) -> None:
        """Every document of both parts through every edit, then no conversation twice, none on both sides, and no kind too often."""
        from bloomery.data.chat.read import write_chats

        made, counts = {}, {}
        for part in PARTS:
            made[part], counts[part] = self._mined(part, job)
        if not made["train"]:
            dropped = Counter(counts["train"]["documents"]["dropped"]).most_common(1)
            why = f"; most documents were dropped for: {dropped[0][0]}" if dropped else ""
            raise BadInput(f"edits: no document of {self.corpus.name} gives a conversation to train on{why}; loosen the edit's knobs")
        held = {question(one) for one in made["heldout"]}
        for part in PARTS:
            kept, gone = once(made[part], held if part == "train" else set())
            drawn = self._drawn(kept, part, job.rng.child("draw", part))
            gone["not drawn"] = len(kept) - len(drawn)
            write_chats(job.out / f"{part}.parquet", drawn)
            kinds = dict(Counter(one.kind for one in drawn).most_common())
            size = sum(size_of(one) for one in drawn)
            counts[part] |= {"dropped": {why: number for why, number in gone.items() if number}, "kinds": kinds, "bytes": size}
            job.fact(f"{part}_conversations", len(drawn))
            job.fact(f"{part}_bytes", size)
            job.fact(f"{part}_kinds", kinds)
            job.fact(f"{part}_dropped", counts[part]["dropped"])
            job.fact(f"{part}_documents", counts[part]["documents"])
        for unit in ("conversations", "bytes"):
            job.fact(unit, sum(job.facts[f"{part}_{unit}"] for part in PARTS))
        (job.out / COUNTS).write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")
        told = ", ".join(f"{number} {kind or 'of no kind'}" for kind, number in counts["train"]["kinds"].items())
        job.log.say(f"{job.facts['train_conversations']} conversations to train on ({told}), {job.facts['heldout_conversations']} held out")

    def check(self, made: Path, job: Job) -> None:
        """The files read back: documents and conversations add up, nothing is empty, twice, or on both sides of the split."""
        from bloomery.data.chat.read import read_chats
        from bloomery.data.tables import read_table

        counts = json.loads((made / COUNTS).read_text(encoding="utf-8"))
        parts = {part: stored(made / f"{part}.parquet") for part in PARTS}
        missing = lost = 0
        for part, told in counts.items():
            documents = told["documents"]
            seen = documents["with"] + documents["without"] + sum(documents["dropped"].values())
            missing += abs(read_table(self.corpus.path(f"{part}.parquet"), ["id"]).num_rows - seen)
            lost += abs(told["made"] - sum(told["dropped"].values()) - len(parts[part]))
            lost += abs(sum(told["kinds"].values()) - len(parts[part])) + abs(told["bytes"] - sum(map(size_of, parts[part])))
        job.check("documents that are not accounted for", missing, 0)
        job.check("conversations or bytes that are not accounted for", lost, 0)
        every = [one for part in parts.values() for one in part]
        other = sum(read_chats(made / f"{part}.parquet").conversations != parts[part] for part in PARTS)
        job.check("parts that are read otherwise than they were written", other, 0)
        job.check("conversations with an empty answer", sum(not one.messages[-1][1].strip() for one in every), 0)
        job.check("ids used twice", len(every) - len({one.id for one in every}), 0)
        packages = [{one.package for one in parts[part]} for part in PARTS]
        both = sorted(packages[0] & packages[1])
        job.check("packages on both sides of the split", len(both), 0, note=", ".join(both[:3]))
        held = {question(one) for one in parts["heldout"]}
        crossing = sum(question(one) in held for one in parts["train"])
        job.check("held-out questions that are also trained on", crossing, 0, note=f"of {len(held)}")

    def _mined(self, part: str, job: Job) -> tuple[list[Conversation], dict[str, Any]]:
        """All conversations of a part in the order of its documents, and how the documents fared."""
        from bloomery.data.texts import method_name

        edits = tuple((method_name(edit), edit) for edit in self.edits)
        path, found = self.corpus.path(f"{part}.parquet"), []
        fared, dropped = Counter({"in": 0, "with": 0, "without": 0}), Counter()
        with job.log.progress(f"asking {part}", total=self.corpus.facts.get(f"{part}_bytes"), unit="bytes") as bar:
            work = partial(converse, edits=edits, rng=job.rng.child("edit"))
            for outcomes in job.executor.map(work, documents(path), label=f"asking {part}"):
                for made, reason, size in outcomes:
                    found += made
                    fared["in"] += 1
                    if reason and not made:
                        dropped[reason] += 1
                    else:
                        fared["with" if made else "without"] += 1
                    bar.advance(size)
        return found, {"documents": {**fared, "dropped": dict(dropped)}, "made": len(found)}

    def _drawn(self, kept: list[Conversation], part: str, rng: Rng) -> list[Conversation]:
        """At most `each` conversations of every kind in the order they came, drawn by a hash of their ids."""
        numbers = Counter(one.kind for one in kept)
        most = self.each or len(kept)
        if self.balanced and part == "train" and numbers:
            most = min(most, min(numbers.values()))
        key, chosen = digest(rng), set()
        for kind in numbers:
            ids = [one.id for one in kept if one.kind == kind]
            chosen |= set(sorted(ids, key=lambda name: (hashlib.sha256(key + name.encode()).digest(), name))[:most])
        return [one for one in kept if one.id in chosen]


def documents(path: Path) -> Iterator[list[dict[str, Any]]]:
    """The documents of a corpus file, some at a time."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=CHUNK, columns=["id", "text", "path", "package"]):
            yield batch.to_pylist()


def converse(rows: Sequence[Mapping[str, Any]], edits: Sequence[tuple[str, Edit]], rng: Rng) -> list[tuple[list[Conversation], str, int]]:
    """The conversations of each document, the first reason why an edit dropped it, and its bytes."""
    outcomes = []
    for row in rows:
        doc = Doc(row["id"], row["text"], {"path": row["path"] or "", "package": row["package"] or ""})
        made: list[Conversation] = []
        reasons: list[str] = []
        for name, edit in edits:
            try:
                result = edit.edit(replace(doc, meta=dict(doc.meta)), None, rng.child(name, doc.id))
            except TROUBLE:
                raise
            except Exception:  # a poisoned document must not take its batch along
                result = Drop("failed")
            if isinstance(result, Drop):
                reasons.append(f"{name}: {result.reason}")
            else:
                made += [said(one, name) for one in result]
        outcomes.append((made, next(iter(reasons), ""), len(doc.text.encode())))
    return outcomes


def said(doc: Doc, name: str) -> Conversation:
    """What an edit made as a conversation. Raises BadInput where it is none."""
    told = doc.meta.get("messages") or ()
    messages = tuple((str(role), str(content)) for role, content in told)
    if not messages or messages[-1][0] != "assistant":
        raise BadInput(f"edits: {name} makes no conversations; name an edit that does, such as code_pairs")
    about = {key: str(doc.meta.get(key) or "") for key in ("package", "path", "kind", "plain")}
    return Conversation(doc.id, messages, **about)


def stored(path: Path) -> list[Conversation]:
    """The conversations of a file as they stand there, whatever they are."""
    from bloomery.data.tables import read_table

    rows = read_table(path).to_pylist()
    return [Conversation(**{**row, "messages": tuple((turn["role"], turn["content"]) for turn in row["messages"])}) for row in rows]


def question(one: Conversation) -> tuple[tuple[str, str], ...]:
    """All that is said before the last answer."""
    return one.messages[:-1]


def size_of(one: Conversation) -> int:
    """Bytes of all that is said."""
    return sum(len(content.encode()) for _, content in one.messages)


def once(conversations: Iterable[Conversation], held: set) -> tuple[list[Conversation], Counter[str]]:
    """The conversations that say something, each once, without those whose question is held out; and how many were left out."""
    kept, seen, gone = [], set(), Counter()
    for one in conversations:
        if not all(content.strip() for role, content in one.messages if role != "system"):
            gone["empty"] += 1
        elif question(one) in held:
            gone["question held out"] += 1
        elif one.messages in seen:
            gone["exact duplicate"] += 1
        else:
            seen.add(one.messages)
            kept.append(one)
    return kept, gone
