"""What evaluate asks about and looks through: held-out documents and conversations, and the text that was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bloomery.core.errors import BadInput
from bloomery.data.excerpts import shuffled
from bloomery.seams import Doc, Item, Rng, Task

if TYPE_CHECKING:
    from bloomery.core.store import Artifact, Store

TRAINED_SAMPLE = 2000  # documents trained on that a task may ask about
TOLD = ["id", "text", "path", "package"]  # columns of a document


def held_out(corpus: Artifact | None) -> list[Doc]:
    """The held-out documents, in file order."""
    import pyarrow.parquet as pq

    if corpus is None:
        return []
    table = pq.read_table(corpus.path("heldout.parquet"), columns=TOLD)
    return [Doc(row["id"], row["text"], {"path": row["path"], "package": row["package"]}) for row in table.to_pylist()]


def trained_sample(corpus: Artifact | None, rng: Rng) -> list[Doc]:
    """At most TRAINED_SAMPLE of the documents trained on, drawn by their ids alone, in file order."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if corpus is None or not corpus.path("train.parquet").is_file():
        return []
    ids = [Doc(name, "") for name in pq.read_table(corpus.path("train.parquet"), columns=["id"]).column("id").to_pylist()]
    chosen = [doc.id for doc in shuffled(ids, rng)[:TRAINED_SAMPLE]]
    table = pq.read_table(corpus.path("train.parquet"), columns=TOLD, filters=pc.field("id").isin(chosen))
    return [Doc(row["id"], row["text"], {"path": row["path"], "package": row["package"]}) for row in table.to_pylist()]


def conversations(chats: Artifact | None) -> list[Doc]:
    """The held-out conversations, each as its last answer with the messages before it."""
    from bloomery.data.chat.read import read_chats

    if chats is None:
        return []
    if not chats.path("heldout.parquet").is_file():
        raise BadInput(f"chats: {chats.folder} holds no heldout.parquet; name a chats artifact, or a model tuned on conversations")
    found = []
    for one in read_chats(chats.path("heldout.parquet")).conversations:
        *messages, (_, answer) = one.messages
        plain = one.plain or "\n\n".join(text for _, text in messages) + "\n\n"
        about = {"messages": tuple(messages), "plain": plain, "kind": one.kind, "package": one.package}
        found.append(Doc(one.id, answer, about))
    return found


@dataclass(frozen=True)
class Trained:
    """The training text that is known: the artifacts that hold it, and why more may have been read, a clause each."""

    texts: tuple[Artifact, ...]
    missing: tuple[str, ...]

    def note(self) -> str:
        """What a score's note says of it; nothing where all is known."""
        if not self.texts:
            return "training text not at hand, contamination unknown"
        return f"training text known in part: {'; '.join(self.missing)}" if self.missing else ""

    def facts(self) -> dict[str, Any]:
        known = "no" if not self.texts else "part" if self.missing else "whole"
        return {"known": known, "from": [one.name for one in self.texts], "missing": list(self.missing)}


def trained_on(named: Sequence[Artifact | None], models: Sequence[Artifact | None], store: Store | None) -> Trained:
    """The text that models were trained on: that of artifacts named, and of everything that the models came from."""
    from bloomery.core.inputs import ancestor

    texts = {one.address: one for one in named if one is not None and _holds_texts(one)}
    missing: dict[str, None] = {}
    seen: set[str] = set()

    def visit(one: Artifact, read: bool = False) -> None:
        if one.address in seen:
            return
        seen.add(one.address)
        if _holds_texts(one):
            texts.setdefault(one.address, one)
        elif one.kind == "folder" and not read:
            missing[f"{one.folder.name} is from outside"] = None
        for address in one.parents():
            try:
                parent = ancestor(one, address, store)
            except BadInput:
                missing[f"what {one.name} came from is not at hand"] = None
            else:
                visit(parent, read=_holds_texts(one) and not _is_model(parent))  # its conversations stand in the tuned model

    for model in models:
        if model is not None:
            visit(model)
    return Trained(tuple(texts.values()), tuple(missing))


def _holds_texts(one: Artifact) -> bool:
    return one.path("train.parquet").is_file()


def _is_model(one: Artifact) -> bool:
    return any(one.path(name).is_file() for name in ("config.json", "adapter_config.json"))


def contaminated(
    asked: Mapping[str, tuple[Task, Sequence[Item]]],
    others: Mapping[str, Mapping[str, Sequence[str]]],
    trained: Trained,
    copied: float,
    bar: Any,
) -> dict[str, set[str]]:
    """By task, the ids of items of which the share `copied` of the runs of 13 words stands in training text, all of which is read.

    What counts is the item as a whole, its question without what all questions of the task begin and end with, or its answer; the latter
    two where they have a run. Items of one question, whose figure they make together, are contaminated together. Items of a task that asks
    about training text are not judged. `others` are the parts of items by task and id.
    """
    from bloomery.data.overlap import seen_shares, with_runs

    judged = {name: items for name, (task, items) in asked.items() if not getattr(task, "trained", False)}
    parts = {name: dict(zip([item.id for item in items], _parts(items), strict=True)) for name, items in judged.items()} | dict(others)
    rows = [(name, key, part) for name, ids in parts.items() for key, (whole, *more) in ids.items() for part in (whole, *with_runs(more))]
    shares = seen_shares([part for _, _, part in rows], training_text(trained.texts, bar))
    found: dict[str, set[str]] = {name: set() for name in (*asked, *others)}
    for (name, key, _), share in zip(rows, shares.tolist(), strict=True):
        if share >= copied:
            found[name].add(key)
    for name, items in judged.items():
        questions = {item.question for item in items if item.id in found[name] and item.question}
        found[name] |= {item.id for item in items if item.question in questions}
    return found


def short_items(asked: Mapping[str, tuple[Task, Sequence[Item]]], others: Mapping[str, Mapping[str, Sequence[str]]]) -> dict[str, str]:
    """By task, what is to be said of items that have too few words, without what all of a task begin and end with, to be told from chance:
    they count as clean, unless a training text is no more than they are. Nothing where all have enough."""
    from bloomery.data.overlap import WORDS, with_runs

    texts = {name: [f"{question}\n{answer}" for _, question, answer in _parts(items)] for name, (_, items) in asked.items()}
    texts |= {name: [whole for whole, *_ in ids.values()] for name, ids in others.items()}
    short = {name: len(some) - len(with_runs(some)) for name, some in texts.items()}
    said = f"items have fewer than {WORDS} words, too few to be looked for, and count as clean"
    return {name: f"{count} of {len(texts[name])} {said}" for name, count in short.items() if count}


def judged(
    score: dict[str, Any], asked: Mapping[str, tuple[Task, Sequence[Item]]], trained: Trained, short: Mapping[str, str]
) -> dict[str, Any]:
    """A score with what is to be said of its clean twin: none where it asks about training text, or where that is not known."""
    from bloomery.infer.scores import unknown

    if score["task"] in asked and getattr(asked[score["task"]][0], "trained", False):
        return unknown(score, "asks about training text, so there is no clean twin")
    if not trained.texts:
        return unknown(score, trained.note())
    return {**score, "note": "; ".join(filter(None, (score["note"], trained.note(), short.get(score["task"], ""))))}


def _parts(items: Sequence[Item]) -> list[tuple[str, ...]]:
    """Each item as a whole, its question without the words that all questions begin and end with, and its answer."""
    words = [item.prompt.split() for item in items]
    several = len({item.prompt for item in items}) > 1
    head, tail = (_shared(some) if several else 0 for some in (words, [one[::-1] for one in words]))
    bare = [" ".join(one[head : len(one) - tail]) for one in words]
    return [(f"{item.prompt}\n{item.target}", question, item.target) for item, question in zip(items, bare, strict=True)]


def _shared(rows: Sequence[list[str]]) -> int:
    """How many words all rows begin with: those of the first and the last in their order."""
    first, last = min(rows), max(rows)
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


def training_text(artifacts: Sequence[Artifact], bar: Any) -> Iterator[list[str]]:
    """All training documents and conversations, some at a time."""
    import pyarrow.parquet as pq

    for one in artifacts:
        with pq.ParquetFile(one.path("train.parquet")) as train:
            column = "text" if "text" in train.schema_arrow.names else "messages"
            for batch in train.iter_batches(512, columns=[column]):
                rows = batch.column(0).to_pylist()
                yield rows if column == "text" else ["\n".join(message["content"] for message in row) for row in rows]
                bar.advance(len(batch))
