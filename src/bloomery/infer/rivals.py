"""What a language model is compared with: bits of texts under general compressors and under an n-gram model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bloomery.core.executors import Executor
from bloomery.data.compressors import MADE_BY, all_together, each_alone
from bloomery.data.shards import Shards
from bloomery.data.tokenizer import Tokenizer
from bloomery.num.ngram import fit


@dataclass(frozen=True)
class Bits:
    """A rival's result: bits of every text, or of all texts together."""

    subject: str
    bits: list[float] | float
    note: str


def compressed(name: str, texts: Sequence[str], executor: Executor | None = None) -> list[Bits]:
    """Each text by itself, and all joined in the given order."""
    alone, together = each_alone(name, texts, executor), all_together(name, texts)
    return [
        Bits(f"{MADE_BY[name]}, each file", [float(bits) for bits in alone], "each file by itself, container included"),
        Bits(f"{MADE_BY[name]}, all files", float(together), f"the {len(texts)} files joined in item order, nothing between them"),
    ]


def ngram(texts: Sequence[str], tokens: Path, order: int, limit: int) -> list[Bits]:
    """Each text and its end token under an n-gram model of the first `limit` training tokens (whole documents) in the tokens artifact
    `tokens`, with its tokenizer."""
    shards, tokenizer = Shards(tokens / "train"), Tokenizer.load(tokens)
    ends = np.cumsum(shards.lengths)
    documents = max(1, int(np.searchsorted(ends, limit, side="right")))
    used = int(ends[documents - 1])
    model = fit(shards.span(0, used), np.append(0, ends[:documents]), order, tokenizer.vocab)
    ids = [[tokenizer.bos, *one, tokenizer.eos] for one in tokenizer.encode_batch(texts)]
    offsets = np.append(0, np.cumsum([len(one) for one in ids]))
    logp = model.score_documents(np.concatenate([np.array(one) for one in ids]), offsets)
    bits = -np.add.reduceat(logp, offsets[:-1]) / math.log(2)
    share = "all" if documents == len(shards) else "the first"
    note = f"interpolated modified Kneser-Ney on {share} {used:,} training tokens; end token counted, as for the model"
    return [Bits(f"{order}-gram", bits.tolist(), note)]
