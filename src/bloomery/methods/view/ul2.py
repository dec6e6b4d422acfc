from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from bloomery.core.rng import numpy_rng
from bloomery.seams import Clock, Doc, Rng, Vocab

REGULAR = ((3.0, 0.15), (8.0, 0.15))  # (mean length of a span, share of the tokens that are hidden)
EXTREME = ((3.0, 0.5), (8.0, 0.5), (64.0, 0.15), (64.0, 0.5))
MODES = ("R", "S", "X")  # in the order of their spare ids, which come before the sentinels


@dataclass(frozen=True)
class Ul2:
    """Mixture of denoisers: each piece has spans hidden, few (R) or many (X), or is continued from its beginning (S); a mark says which.

    P093 Tay et al. 2022, arXiv 2205.05131
    P080 Tay et al. 2022, arXiv 2210.11399: the same after ordinary training, with regular 1, sequential 2, extreme 1.
    Differs: decoder-only and causal throughout, so that the visible text is read from left to right; spans are cut at random as in T5
        (Raffel et al. 2020); marks take at most `extra` of a piece, so that short pieces have fewer spans or are continued, and those
        below 1 / extra inputs are plain text. A piece for whose spans the sentinels do not suffice is cut into equal parts that are
        denoised each by itself, as spans would grow with it otherwise and the denoisers become one; S takes a piece of any length. A
        document with spans of its own is continued and trained on these alone.
    Costs: rows hold 1 / (1 + extra) as much text; only what was hidden is trained, a third to a half of what is read.
    """

    regular: float = 2.0  # odds of R: spans of about 3 or 8 tokens, 15% hidden
    sequential: float = 1.0  # odds of S: the end of the piece is hidden, a quarter on average
    extreme: float = 4.0  # odds of X: half hidden, or spans of about 64 tokens
    sentinels: int = 16  # ids for hidden spans and their end; 16 serve R and X up to 135 (X) or 309 (R) tokens, longer pieces are cut
    extra: float = 0.25  # inputs that marks may add, as a share of the piece's

    def __post_init__(self) -> None:
        if min(self.odds) < 0 or not any(self.odds):
            raise ValueError(f"regular, sequential and extreme must not be negative, and some above 0, got {self.odds}")
        if self.sentinels < 2 or not 0 < self.extra <= 1:
            raise ValueError(f"sentinels must be at least 2, extra above 0 and at most 1, got {self.sentinels} and {self.extra}")

    @property
    def odds(self) -> tuple[float, float, float]:
        """Of R, S and X."""
        return self.regular, self.sequential, self.extreme

    @property
    def marks(self) -> int:
        """Spare ids that are needed."""
        return len(MODES) + self.sentinels

    def room(self, row: int) -> int:
        """Inputs of documents that fit a row whatever is drawn."""
        return next(n for n in range(int(row / (1 + self.extra)) + 1, -1, -1) if n + int(n * self.extra) <= row)

    def view(self, ids: Sequence[int], doc: Doc | None, vocab: Vocab, clock: Clock, rng: Rng) -> list[dict[str, Any]]:
        """n + 1 tokens become at most n + extra * n inputs; weights are 1 where something hidden is to be said, else 0."""
        ids, draw = np.asarray(ids, np.int64), numpy_rng(rng)
        n = len(ids) - 1
        if n < 1:
            return []
        spare = int(n * self.extra)
        if not spare:
            return [laid(ids, np.ones(len(ids)), doc)]
        mode = MODES[int(draw.choice(3, p=np.array(self.odds) / sum(self.odds)))]
        if mode == "S" or spare < 4 or (doc is not None and doc.spans):
            hidden = np.arange(len(ids)) > n - n * draw.uniform(0, 0.5)
            hidden[-1] = True
            return [laid(np.r_[vocab.spare[1], ids], np.r_[0, hidden if not (doc and doc.spans) else np.ones(len(ids))], doc, 1)]
        kind = (REGULAR if mode == "R" else EXTREME)[int(draw.integers(2 if mode == "R" else 4))]
        found, parts = [], self.parts(n, *kind)
        for start, stop in pairwise(n * i // parts for i in range(parts + 1)):
            part, (hidden, count) = ids[start : stop + 1], self.spans(stop - start, *kind)
            sizes = cut(hidden, count, draw), cut(len(part) - hidden, count, draw)
            seen, said = _spans(part, *sizes, vocab.spare[len(MODES) :])
            tokens = np.r_[vocab.spare[MODES.index(mode)], seen, said]
            found.append(laid(tokens, np.r_[np.zeros(1 + len(seen)), np.ones(len(said))], None))
        return found

    def spans(self, n: int, mean: float, share: float, sentinels: bool = True) -> tuple[int, int]:
        """Tokens that are hidden of n + 1, and in how many spans: as `mean` asks, as far as `extra` and the sentinels go."""
        hidden = min(n, max(1, round((n + 1) * share)))
        most = (int(n * self.extra) - 2) // 2  # each span is marked where it was and before it is said; a mode, an end
        if sentinels:
            most = min(most, self.sentinels - 1)
        return hidden, min(most, hidden, n + 1 - hidden, max(1, round(hidden / mean)))

    def parts(self, n: int, mean: float, share: float) -> int:
        """Into how many pieces n + 1 tokens are cut, so that the sentinels suffice for each and each has marks for a span."""
        count = 1
        while self.spans(-(-n // count), mean, share, False)[1] >= self.sentinels and int(n // (count + 1) * self.extra) >= 4:
            count += 1
        return count


def _spans(ids: np.ndarray, hidden: np.ndarray, visible: np.ndarray, sentinels: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The text with a sentinel for each span, and the spans, each after its sentinel, with one more sentinel for the end."""
    seen, said, at = [], [], 0
    for sentinel, out, kept in zip(sentinels, hidden, visible):
        seen += [ids[at : at + kept], [sentinel]]
        said += [[sentinel], ids[at + kept : at + kept + out]]
        at += kept + out
    return np.concatenate(seen), np.concatenate([*said, [sentinels[len(hidden)]]])


def cut(total: int, parts: int, draw: np.random.Generator) -> np.ndarray:
    """`total` cut at random into `parts`, each at least 1."""
    edges = np.sort(draw.choice(np.arange(1, total), parts - 1, replace=False)) if parts > 1 else np.empty(0, np.int64)
    return np.diff(np.r_[0, edges, total]).astype(np.int64)


def laid(tokens: np.ndarray, weights: np.ndarray, doc: Doc | None, shift: int = 0) -> dict[str, Any]:
    """Tokens as inputs and the targets that follow; of a document with spans only the tokens within them count, `shift` places on."""
    weights = np.asarray(weights, np.float32)
    if doc is not None and doc.spans:
        inside = np.zeros_like(weights)
        for start, stop, weight in doc.spans:
            inside[start + shift : stop + shift] = weight
        weights = weights * inside
    return {"inputs": tokens[:-1], "targets": tokens[1:], "weights": weights[1:], "positions": np.arange(len(tokens) - 1)}
