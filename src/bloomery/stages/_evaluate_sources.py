"""What evaluate asks about and looks through: held-out documents and conversations, and the text that was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bloomery.core.errors import BadInput
from bloomery.data.excerpts import shuffled
from bloomery.seams import Doc, Rng

if TYPE_CHECKING:
    from bloomery.core.store import Artifact

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


def trained_on(artifacts: Sequence[Artifact | None]) -> list[Artifact]:
    """Those that hold training text."""
    return [one for one in artifacts if one is not None and one.path("train.parquet").is_file()]


def training_text(artifacts: Sequence[Artifact | None], bar: Any) -> Iterator[list[str]]:
    """All training documents and conversations, some at a time."""
    import pyarrow.parquet as pq

    for one in trained_on(artifacts):
        with pq.ParquetFile(one.path("train.parquet")) as train:
            column = "text" if "text" in train.schema_arrow.names else "messages"
            for batch in train.iter_batches(512, columns=[column]):
                rows = batch.column(0).to_pylist()
                yield rows if column == "text" else ["\n".join(message["content"] for message in row) for row in rows]
                bar.advance(len(batch))
