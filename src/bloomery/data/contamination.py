"""Evaluation items looked for in documents: every pair of an item and a document that holds it, whole, in part or nearly.

Source: runs of 8 words and half of an item, Lambert et al. 2024, "Tulu 3", arXiv 2411.15124, section 3.2; near copies by shingles of 5
words, Broder 1997, "On the resemblance and containment of documents", taken within a passage, since an item is a small part of a document.
Words are those of `word_hashes.folded`: case, punctuation and white space hide nothing. A run that many items share, such as the words
of a form in which all are asked, tells nothing of any and is not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bloomery.data import minhash
from bloomery.data.compiled import compiled
from bloomery.data.crossing import postings
from bloomery.data.overlap import composed, run_hashes
from bloomery.data.word_hashes import folded, placed_words, runs_of, words

LEAST = 6  # runs of 5 words that a near copy shares at least: ten words in a row, where nothing was changed
MOST = 10  # items of one document that are told, those of which most was found
SLACK = 4  # a passage may be longer than the item by one part in so many
AROUND = 12  # words shown on both sides of a passage
NEVER = 1 << 62  # runs, more than any text has
SHOWN = 400  # words of a passage or of an item shown at most


@dataclass(frozen=True)
class ExamItem:
    """One item of an evaluation set."""

    set: str
    name: str
    question: str
    answer: str = ""


@dataclass(frozen=True)
class Rules:
    """When a document holds an item."""

    words: int = 8  # words per run; a part of an item with fewer is not looked for
    share: float = 0.5  # share of a part's runs that stand in the document
    near: float = 0.4  # share of a part's runs of 5 words that stand in one passage about as long; 0: near copies are not looked for
    common: int = 10  # a run that more parts than this share is not counted

    def __post_init__(self) -> None:
        if self.words < minhash.WORDS or not 0 < self.share <= 1 or not 0 <= self.near <= 1 or self.common < 1:
            raise ValueError(f"words must be at least {minhash.WORDS}, share above 0 and near from 0 to 1, common at least 1")


@dataclass(frozen=True)
class Match:
    """A part of an item in a document: the share of its runs that stand there, and that of its runs of 5 words in one passage; None is
    less than the rules ask for. `start` and `stop` are the words of the document between which it was found."""

    document: int  # number in the batch
    item: int
    part: str  # question, answer, or both of them in one where each alone is too short
    share: float | None
    near: float | None
    start: int
    stop: int


class Search:
    """Items with their parts, ready to be looked for. `looked`, `short` and `common` count items: those with a part that is looked for,
    those without since all are too short, and those of which all runs are common."""

    def __init__(self, items: Sequence[ExamItem], rules: Rules) -> None:
        self.items, self.rules = list(items), rules
        self.owner, self.parts, self.texts = _parts(self.items, rules.words)
        self.sizes = words(composed(self.texts), folded())[1]
        self.runs = _Index(self.texts, rules.words, rules.common)
        self.shingles = _Index(self.texts, minhash.WORDS, rules.common)
        sought = np.zeros(len(self.items), bool)
        sought[self.owner[self.runs.counts > 0]] = True
        long = np.zeros(len(self.items), bool)
        long[self.owner] = True
        self.looked = sought
        self.short, self.common = ~long, long & ~sought

    def found(self, texts: Sequence[str] | Any) -> list[Match]:
        """Matches of a batch of texts (strings or an Arrow column), by document, the best first; at most MOST items of each document."""
        hashes, counts = words(composed(texts), folded())
        ends = np.cumsum(counts)
        need = np.maximum(1, np.ceil(self.rules.share * self.runs.counts - 1e-9))
        by_runs = self.runs.search(hashes.copy(), ends, need, np.full(len(self.texts), NEVER))
        rows: dict[tuple[int, int], tuple[float | None, float | None, int, int]] = {}
        for d, t, shared, first, last in by_runs.tolist():
            rows[d, t] = shared / self.runs.counts[t], None, first, last + self.rules.words
        if self.rules.near:
            least = np.maximum(LEAST, np.ceil(self.rules.near * self.shingles.counts - 1e-9))
            reach = self.sizes + self.sizes // SLACK - minhash.WORDS + 1
            for d, t, shared, first, last in self.shingles.search(hashes, ends, least, reach).tolist():
                share = rows[d, t][0] if (d, t) in rows else None
                rows[d, t] = share, shared / self.shingles.counts[t], first, last + minhash.WORDS
        return self._best(rows)

    def _best(self, rows: dict[tuple[int, int], tuple[float | None, float | None, int, int]]) -> list[Match]:
        kept: list[Match] = []
        told: dict[int, set[int]] = {}
        for (d, t), found in sorted(rows.items(), key=lambda row: (row[0][0], -max(row[1][0] or 0, row[1][1] or 0), row[0][1])):
            item = int(self.owner[t])
            if item in told.setdefault(d, set()) or len(told[d]) < MOST:
                told[d].add(item)
                kept.append(Match(d, item, self.parts[t], *found))
        return kept

    def text(self, match: Match) -> str:
        """What was looked for of an item."""
        one = self.items[match.item]
        return {"question": one.question, "answer": one.answer, "both": f"{one.question}\n{one.answer}"}[match.part]


def _parts(items: Sequence[ExamItem], least: int) -> tuple[np.ndarray, list[str], list[str]]:
    """Item, name and text of every part with `least` words; question and answer in one where each alone is too short."""
    texts = {"question": [one.question for one in items], "answer": [one.answer for one in items]}
    texts["both"] = [f"{one.question}\n{one.answer}" for one in items]
    sizes = {part: words(composed(given), folded())[1] for part, given in texts.items()}
    owner, parts, found = [], [], []
    for i in range(len(items)):
        chosen = [part for part in ("question", "answer") if sizes[part][i] >= least] or ["both"] * bool(sizes["both"][i] >= least)
        owner += [i] * len(chosen)
        parts += chosen
        found += [texts[part][i] for part in chosen]
    return np.array(owner, np.int64), parts, found


class _Index:
    """Runs of words of texts, those aside that more than `common` texts have; `counts` are the different ones of each text."""

    def __init__(self, texts: Sequence[str], length: int, common: int) -> None:
        self.length = length
        hashes, owner = run_hashes(texts, length)
        order = np.lexsort((owner, hashes))
        hashes, owner = hashes[order], owner[order]
        new = np.append(True, (hashes[1:] != hashes[:-1]) | (owner[1:] != owner[:-1]))[: len(hashes)]
        hashes, owner = hashes[new], owner[new]
        _, place, times = np.unique(hashes, return_inverse=True, return_counts=True)
        own = times[place] <= common
        self.counts = np.bincount(owner[own], minlength=len(texts))
        self.table = postings(hashes[own], owner[own])

    def search(self, hashes: np.ndarray, ends: np.ndarray, need: np.ndarray, reach: np.ndarray) -> np.ndarray:
        """Rows (document, text, runs shared, first and last run) of texts that share as many different runs as they need within `reach`
        runs in a row; int64. `hashes` are overwritten."""
        needed = np.where(self.counts > 0, need, NEVER).astype(np.int64)
        return _search(hashes, ends, self.length, *self.table, needed, reach.astype(np.int64))


@compiled
def _search(hashes, ends, length, table, owners, mask, holders, starts, need, reach):  # type: ignore[no-untyped-def]
    texts = need.shape[0]
    head, tail, count = np.empty(texts, np.int64), np.empty(texts, np.int64), np.zeros(texts, np.int64)
    times, touched = np.zeros(starts.shape[0], np.int64), np.empty(texts, np.int64)
    hits, rows, n_rows, begin = np.empty((1024, 3), np.int64), np.empty((256, 5), np.int64), 0, 0
    for d in range(ends.shape[0]):
        runs, n, several = hashes[begin : ends[d]], 0, 0
        for i in range(runs_of(runs, ends[d] - begin, length, runs)):
            p = (runs[i] >> np.uint64(7)) & mask
            while owners[p] >= 0 and table[p] != runs[i]:
                p = (p + np.uint64(1)) & mask
            slot = owners[p]
            for k in range(starts[slot] if slot >= 0 else 0, starts[slot + 1] if slot >= 0 else 0):
                if n == hits.shape[0]:
                    more = np.empty((2 * n, 3), np.int64)
                    more[:n] = hits
                    hits = more
                t = holders[k]
                if count[t] == 0:
                    head[t], touched[several], several = n, t, several + 1
                else:
                    hits[tail[t], 2] = n
                hits[n, 0], hits[n, 1], hits[n, 2] = i, slot, -1
                tail[t], count[t], n = n, count[t] + 1, n + 1
        for j in range(several):
            t = touched[j]
            if count[t] >= need[t]:
                best, first, last = _passage(hits, head[t], reach[t], times)
                if best >= need[t]:
                    if n_rows == rows.shape[0]:
                        longer = np.empty((2 * n_rows, 5), np.int64)
                        longer[:n_rows] = rows
                        rows = longer
                    rows[n_rows] = np.array([d, t, best, first, last])
                    n_rows += 1
            count[t] = 0
        begin = ends[d]
    return rows[:n_rows]


@compiled
def _passage(hits, head, reach, times):  # type: ignore[no-untyped-def]
    """Of one text's hits (place, run, next) the stretch of `reach` places with the most different runs: how many, first and last place."""
    best, first, last, different = 0, 0, 0, 0
    left, right = head, head
    while right >= 0:
        different += times[hits[right, 1]] == 0
        times[hits[right, 1]] += 1
        while hits[right, 0] - hits[left, 0] >= reach:
            times[hits[left, 1]] -= 1
            different -= times[hits[left, 1]] == 0
            left = hits[left, 2]
        if different > best:
            best, first, last = different, hits[left, 0], hits[right, 0]
        right = hits[right, 2]
    while left >= 0:
        times[hits[left, 1]] = 0
        left = hits[left, 2]
    return best, first, last


class Excerpts:
    """Passages of one text by its words."""

    def __init__(self, text: str) -> None:
        (text,) = composed([text])
        self.data = text.encode("utf-8", "surrogatepass")
        _, self.begins, self.ends, _ = placed_words([text], folded())

    def between(self, start: int, stop: int) -> str:
        """Words `start` to `stop` as they are written, some more on both sides; cut at SHOWN words."""
        if not len(self.begins):
            return ""
        first = max(0, start - AROUND)
        last = min(len(self.ends), stop + AROUND, first + SHOWN)
        piece = self.data[0 if first == 0 else self.begins[first] : self.ends[last - 1]].decode("utf-8", "replace")
        return ("… " if first else "") + piece + (" …" if last < len(self.ends) else "")
