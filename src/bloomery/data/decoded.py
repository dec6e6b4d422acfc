"""The documents behind token shards, as text again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from bloomery.data.shards import Shards
from bloomery.data.tokenizer import Tokenizer
from bloomery.seams import Doc


class Decoded(Sequence[Doc]):
    """Documents of shards, decoded when they are asked for, without begin and end tokens."""

    def __init__(self, shards: Shards, tokenizer: Tokenizer) -> None:
        self.shards, self.tokenizer = shards, tokenizer

    @cached_property
    def ids(self) -> list[str]:
        """Names of the documents."""
        return self.shards.table().column("id").to_pylist()

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, i: int) -> Doc:  # type: ignore[override]
        """Document `i`; IndexError past the last."""
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        ends = (self.tokenizer.bos, self.tokenizer.eos)
        return Doc(self.ids[i], self.tokenizer.decode(one for one in self.shards.document(i % len(self)) if one not in ends))
