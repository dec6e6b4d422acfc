"""Texts found again in training text by runs of words: how much of a text was seen, and which documents hold evaluation items.

Source: Brown et al. 2020, "Language Models are Few-Shot Learners", arXiv 2005.14165, appendix C (one run of 13 words); Lambert et al.
2024, "Tulu 3", arXiv 2411.15124, section 3.2 (runs of 8, half of an item). Words are those of `word_hashes.folded`, in composed
characters, so white space, punctuation, case and accents written apart from their letters do not hide a copy. Runs are compared by
64-bit hashes: a false match has odds of (runs compared) / 2^64.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bloomery.core.errors import BadInput
from bloomery.data.compiled import compiled
from bloomery.data.crossing import postings
from bloomery.data.parallel import threaded
from bloomery.data.word_hashes import folded, runs_of, words

WORDS = 13
COPIED = 0.8  # a document of which this share was seen counts as seen


def seen_shares(texts: Sequence[str], training: Iterable[Sequence[str]], length: int = WORDS) -> np.ndarray:
    """Share of each text's runs of words found in any training text; `training` comes in groups of any size. float64 (texts,).

    A text of fewer than `length` words is one run: all its words, so it was seen where a training text of the same few words is.
    """
    if length < 1:
        raise ValueError(f"length must be at least 1, got {length}")
    hashes, owner = run_hashes(texts, length)
    wanted, place = np.unique(hashes, return_inverse=True)
    found = np.zeros(len(wanted), bool)
    for group in training:
        other, _ = run_hashes(group, length)
        if len(wanted) and len(other):
            at = np.minimum(np.searchsorted(wanted, other), len(wanted) - 1)
            found[at[wanted[at] == other]] = True
    runs = np.bincount(owner, minlength=len(texts))
    return np.bincount(owner, weights=found[place], minlength=len(texts)) / np.maximum(runs, 1)


def with_runs(texts: Sequence[str], length: int = WORDS) -> list[str]:
    """Those texts that have a run of words: of shorter ones nothing can be told from chance."""
    _, counts = words(composed(texts), folded())
    return [text for text, count in zip(texts, counts.tolist(), strict=True) if count >= length]


def composed(texts: Sequence[str] | Any) -> Sequence[str] | Any:
    """Texts, as strings or an Arrow column, with letters and their accents in one (NFC)."""
    if not hasattr(texts, "type"):
        return [text if text.isascii() else unicodedata.normalize("NFC", text) for text in texts]
    import pyarrow.compute as pc

    return texts if pc.all(pc.string_is_ascii(texts), min_count=0).as_py() else pc.utf8_normalize(texts, "NFC")


def run_hashes(texts: Sequence[str] | Any, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Hash of every run of `length` words and the number of the text it stands in: uint64 and int64 (runs,). A shorter text is a run."""
    hashes, counts = words(composed(texts), folded())
    ends = np.cumsum(counts)
    runs = np.zeros(len(counts), np.int64)
    n = _run_hashes(hashes, ends, length, runs)
    return hashes[:n], np.repeat(np.arange(len(counts)), runs)


@compiled
def _run_hashes(hashes, ends, length, runs):  # type: ignore[no-untyped-def]
    """Replace the hashes of words by those of runs."""
    n = begin = 0
    for d in range(ends.shape[0]):
        size = ends[d] - begin
        runs[d] = runs_of(hashes[begin : ends[d]], size, min(length, size), hashes[n:]) if size > 0 else 0
        n += runs[d]
        begin = ends[d]
    return n


@dataclass(frozen=True)
class Items:
    """Evaluation items that are looked for."""

    names: tuple[str, ...]
    texts: tuple[str, ...]
    length: int  # words per run
    short: int  # items of fewer words, which are not looked for

    @classmethod
    def of(cls, sets: dict[str, Sequence[tuple[str, str]]], length: int) -> Items:
        """Sets by name, each a list of (name, text). BadInput for a set that has no item, or none of `length` words."""
        names, texts, short = [], [], 0
        for name, items in sets.items():
            if not items:
                raise BadInput(f"decontaminate: {name} has no items; check what it names")
            _, counts = words(composed([text for _, text in items]), folded())
            if counts.max() < length:
                raise BadInput(
                    f"decontaminate: no item of {name} has {length} words, so none can be told from chance; lower `leak_words`, "
                    "or name another column by {from: ADDRESS, text: COLUMN}"
                )
            long = [item for item, count in zip(items, counts, strict=True) if count >= length]
            names += [one for one, _ in long]
            texts += [text for _, text in long]
            short += len(items) - len(long)
        return cls(tuple(names), tuple(texts), length, short)


def leaks(items: Items, batches: Iterable[Sequence[str] | Any], workers: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """For each document the largest share of an item's runs that stand in it, and that item (-1: none); float64 and int64.

    An item's runs are counted once however often it has them, wherever in the document they stand. `batches` are texts in order, as
    strings or Arrow columns; only the items stay in memory.
    """
    hashes, owner = run_hashes(items.texts, items.length)
    pairs = np.unique(np.stack([owner.astype(np.uint64), hashes], axis=1), axis=0)
    sizes = np.bincount(pairs[:, 0].astype(np.int64), minlength=len(items.texts))
    index = postings(np.ascontiguousarray(pairs[:, 1]), pairs[:, 0].astype(np.int64))
    found = list(threaded(partial(_leaks_of, items.length, index, sizes), batches, workers))
    if not found:
        return np.zeros(0), np.zeros(0, np.int64)
    return np.concatenate([best for best, _ in found]), np.concatenate([which for _, which in found])


def _leaks_of(length: int, index: tuple[Any, ...], sizes: np.ndarray, texts: Any) -> tuple[np.ndarray, np.ndarray]:
    hashes, counts = words(composed(texts), folded())
    best, which = np.zeros(len(counts)), np.full(len(counts), -1, np.int64)
    _leaks(hashes, np.cumsum(counts), length, *index, sizes, best, which)
    return best, which


@compiled
def _leaks(hashes, ends, length, table, owners, mask, holders, starts, sizes, best, which):  # type: ignore[no-untyped-def]
    shared, touched = np.zeros(sizes.shape[0], np.int64), np.empty(sizes.shape[0], np.int64)
    stamps, begin = np.full(starts.shape[0], -1, np.int64), 0
    for d in range(ends.shape[0]):
        runs, n = hashes[begin : ends[d]], 0
        for i in range(runs_of(runs, ends[d] - begin, length, runs)):
            p = (runs[i] >> np.uint64(7)) & mask
            while owners[p] >= 0 and table[p] != runs[i]:
                p = (p + np.uint64(1)) & mask
            slot = owners[p]
            if slot >= 0 and stamps[slot] != d:
                stamps[slot] = d
                for k in range(starts[slot], starts[slot + 1]):
                    if shared[holders[k]] == 0:
                        touched[n] = holders[k]
                        n += 1
                    shared[holders[k]] += 1
        for k in range(n):
            item = touched[k]
            value = shared[item] / sizes[item]
            if value > best[d] or (value == best[d] and item < which[d]):
                best[d], which[d] = value, item
            shared[item] = 0
        begin = ends[d]
