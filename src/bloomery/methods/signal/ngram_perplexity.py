"""Signal `ngram_perplexity`: how expected a document's words are, by an n-gram model of text that is thought good."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from bloomery.core.errors import BadInput
from bloomery.data.named import texts
from bloomery.num.ngram import fit
from bloomery.seams import Doc, Tools


@dataclass(frozen=True)
class NgramPerplexity:
    """Perplexity of a word under an n-gram model with modified Kneser-Ney smoothing, fitted to named documents on the spot.

    Source: Wenzek et al. 2019, arXiv 1911.00359 (CCNet, with KenLM's 5-grams of Wikipedia).
    Differs: trained here on documents that the recipe names (num/ngram.py, exact); words are what stands between white space, in small
        letters, digits as 0, where CCNet has SentencePiece; a word seen less than `least` times is one common unknown word.
    Costs: fitting reads the named documents once in every worker; scoring looks up `order` n-grams for each word.
    """

    train: str = ""  # address of the documents to fit, such as good/*.jsonl; there must be some
    order: int = 5  # words of the longest n-gram
    least: int = 2  # times that a word must be seen to be known
    outside = ("train",)
    required = ("train",)

    def __post_init__(self) -> None:
        if not 1 <= self.order <= 8 or self.least < 1:
            raise ValueError("order must be from 1 to 8 and least at least 1")

    def columns(self, docs: Sequence[Doc], tools: Tools | None) -> dict[str, Sequence[float]]:
        """perplexity (of a word), nats (for each word), unknown (share of the words); 1, 0 and 0 for a document without words."""
        found = np.zeros((len(docs), 3))
        found[:, 0] = 1.0
        if docs:
            model, vocabulary = _fitted(self.train, self.order, self.least)
            split = [_ids(_words(doc.text), vocabulary) for doc in docs]
            offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in split])])
            logp = model.score_documents(np.concatenate(split), offsets)
            words = np.maximum(1, np.diff(offsets) - 1)
            found[:, 1] = -np.array([math.fsum(logp[a:b]) for a, b in pairwise(offsets)]) / words
            found[:, 0] = np.exp(np.minimum(700.0, found[:, 1]))
            found[:, 2] = [np.count_nonzero(ids == 1) for ids in split] / words
        return {name: found[:, k] for k, name in enumerate(("perplexity", "nats", "unknown"))}


_ZEROS = str.maketrans("123456789", "000000000")


def _words(text: str) -> list[str]:
    return text.lower().translate(_ZEROS).split()


def _ids(words: Sequence[str], vocabulary: dict[str, int]) -> np.ndarray:
    """0, the beginning, then each word's number; 1 for one that is not known."""
    return np.array([0, *(vocabulary.get(word, 1) for word in words)], np.int64)


@lru_cache(maxsize=2)
def _fitted(address: str, order: int, least: int) -> tuple[Any, dict[str, int]]:
    split = [_words(text) for text in texts(address, "ngram_perplexity.train")]
    counts: dict[str, int] = {}
    for words in split:
        for word in words:
            counts[word] = counts.get(word, 0) + 1
    vocabulary = {word: number for number, word in enumerate((word for word, count in counts.items() if count >= least), start=2)}
    ids = [_ids(words, vocabulary) for words in split]
    try:
        return fit(np.concatenate(ids), np.concatenate([[0], np.cumsum([len(one) for one in ids])]), order, len(vocabulary) + 2), vocabulary
    except ValueError as wrong:
        raise BadInput(f"ngram_perplexity.train: {address}: {wrong}") from None
