"""Token sequences drawn from an artifact: what compressors calibrate on and copies of a model are compared on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bloomery.core.errors import BadInput
from bloomery.core.rng import numpy_rng
from bloomery.data.shards import Shards
from bloomery.seams import Rng

if TYPE_CHECKING:
    from bloomery.core.store import Artifact

COUNTED = 8192  # predictions that a copy of a model is compared on, where there are as many


def samples(folder: Path, part: str, count: int, length: int, tokenizer_folder: Path, seed: int) -> list[np.ndarray]:
    """At most `count` sequences of 2 to `length` tokens (int64) from the part ("train" or "heldout") of a tokens or a chats artifact.

    Documents of shards are cut every `length` tokens, as training cuts them, and pieces are drawn at random from as many documents
    as there are before any document gives a second. Conversations are laid out by the chat template in `tokenizer_folder`, drawn
    at random and cut at `length`. BadInput where the folder holds neither.
    """
    folder = Path(folder)
    rng = Rng((seed, "samples", part))
    if (folder / part / "documents.parquet").is_file():
        return _pieces(Shards(folder / part), count, length, rng)
    if (folder / f"{part}.parquet").is_file():
        return _conversations(folder / f"{part}.parquet", count, length, Path(tokenizer_folder), rng)
    raise BadInput(f"{folder} holds neither {part}/ shards nor {part}.parquet; give what tokenize or synthesize made")


@dataclass(frozen=True)
class Text:
    """Token sequences that a model and its copy are compared on; `counted` has a number above 0 for each token whose prediction counts."""

    ids: list[list[int]]
    counted: list[list[float]]
    what: str  # where they are from, in words


def to_compare(artifact: Artifact, length: int, tokenizer_folder: Path, seed: int) -> Text:
    """Held-out sequences (training ones where nothing is held out) until `COUNTED` predictions count, the same for every copy.

    Of conversations the answers alone count: a tuned model is not meant to write the questions. BadInput where there are none.
    """
    folder = artifact.folder
    part, what = ("heldout", "held-out") if has(folder, "heldout") else ("train", "training")
    rng = Rng((seed, "compared", part))
    if (folder / part / "documents.parquet").is_file():
        drawn = ((ids.tolist(), [1.0] * len(ids)) for ids in _pieces(Shards(folder / part), COUNTED, length, rng))
        what = f"{what} tokens of {artifact.name}"
    else:
        drawn = _laid(_table(folder / f"{part}.parquet"), length, Path(tokenizer_folder), rng)
        what = f"answers of {what} conversations of {artifact.name}"
    found, total = Text([], [], what), 0
    for ids, counted in drawn:
        found.ids.append(ids)
        found.counted.append(counted)
        total += sum(one > 0 for one in counted[1:])
        if total >= COUNTED:
            break
    if not total:
        raise BadInput(f"{artifact.name} holds no text of two tokens to compare on; give another artifact as data")
    return found


def has(folder: Path, part: str) -> bool:
    """Whether an artifact has that part, with something in it."""
    folder = Path(folder)
    if (folder / part / "documents.parquet").is_file():
        return bool((Shards(folder / part).lengths > 1).any())
    file = folder / f"{part}.parquet"
    if not file.is_file():
        return False
    import pyarrow.parquet as pq

    return pq.read_metadata(file).num_rows > 0


def _pieces(shards: Shards, count: int, length: int, rng: Rng) -> list[np.ndarray]:
    """Pieces of documents; the second of a document comes after the first of every other."""
    pieces = -(-shards.lengths // length)
    document = np.repeat(np.arange(len(shards)), pieces)
    first = np.repeat(np.cumsum(pieces) - pieces, pieces)
    start = (np.arange(len(document)) - first) * length
    whole = np.minimum(shards.lengths[document] - start, length) >= 2  # a lone token predicts nothing
    document, start = document[whole], start[whole]
    draw = numpy_rng(rng).random(len(document))
    order = np.lexsort((draw, document))
    place = np.arange(len(order)) - np.searchsorted(document, document[order])  # in the random order of its document
    chosen = order[np.lexsort((draw[order], place))[:count]]
    return [shards.piece(int(document[i]), int(start[i]), int(start[i]) + length).astype(np.int64) for i in chosen]


def _conversations(file: Path, count: int, length: int, tokenizer_folder: Path, rng: Rng) -> list[np.ndarray]:
    """Conversations as the model reads them."""
    laid = _laid(_table(file), length, tokenizer_folder, rng)
    return [np.asarray(ids, dtype=np.int64) for ids, _ in islice(laid, count)]


def _table(file: Path) -> Any:
    """The conversations of a file."""
    import pyarrow.parquet as pq

    if not file.is_file():
        raise BadInput(f"{file} is not there; give what tokenize or synthesize made")
    table = pq.read_table(file)
    if "messages" not in table.column_names:
        raise BadInput(f"{file} has no column messages; give what synthesize made, or the tokens that tokenize made")
    return table


def _laid(table: Any, length: int, tokenizer_folder: Path, rng: Rng) -> Iterator[tuple[list[int], list[float]]]:
    """Ids of conversations in random order, cut at `length`, and for each token the weight with which it is trained."""
    from bloomery.data.chat.encode import trained
    from bloomery.data.chat.template import ChatTemplate

    template = ChatTemplate.load(tokenizer_folder)
    if template is None:
        raise BadInput(f"{tokenizer_folder} has no chat template to lay conversations out with; calibrate on tokens instead")
    for row in numpy_rng(rng).permutation(table.num_rows):
        example = template.example(table["messages"][int(row)].as_py())
        if len(example[0]) >= 2:
            yield [int(i) for i in example[0][:length]], trained(example)[:length].tolist()
