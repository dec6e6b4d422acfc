"""Held-out rows of a world, for what claims measure on models themselves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bloomery.seams import Rng

if TYPE_CHECKING:
    from bloomery.seams import Batch


def rows(tokens: str | Path, context: int, most: int = 32768) -> list[Batch]:
    """About `most` held-out tokens of a folder of shards, packed and causal as a training run measures them."""
    from bloomery.data.shards import Shards
    from bloomery.data.tokenizer import Tokenizer, vocab_of
    from bloomery.methods.batching.packed import Packed
    from bloomery.methods.view.causal import Causal
    from bloomery.train.batches import Feed
    from bloomery.train.heldout import sample

    shards, vocab = Shards(Path(tokens) / "heldout"), vocab_of(Tokenizer.load(tokens))
    return sample(Feed(shards, Packed(), Causal(), context, 16, Rng(("lab", "rows")), vocab), most)
