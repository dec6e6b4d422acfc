"""Token sequences drawn from an artifact: what compressors calibrate on and copies of a model are compared on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bloomery.core.errors import BadInput
from bloomery.core.rng import numpy_rng
from bloomery.data.shards import Shards
from bloomery.seams import Rng


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
    import pyarrow.parquet as pq

    from bloomery.data.chat.template import ChatTemplate

    table = pq.read_table(file)
    if "messages" not in table.column_names:
        raise BadInput(f"{file} has no column messages; give what synthesize made, or the tokens that tokenize made")
    template = ChatTemplate.load(tokenizer_folder)
    if template is None:
        raise BadInput(f"{tokenizer_folder} has no chat template to lay conversations out with; calibrate on tokens instead")
    found: list[np.ndarray] = []
    for row in numpy_rng(rng).permutation(table.num_rows):
        if len(found) == count:
            break
        ids: Any = template.example(table["messages"][int(row)].as_py())[0][:length]
        if len(ids) >= 2:
            found.append(np.asarray(ids, dtype=np.int64))
    return found
