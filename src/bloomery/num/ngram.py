"""An n-gram language model over integer tokens: interpolated modified Kneser-Ney smoothing, exact for any vocabulary.

Sources: Kneser & Ney 1995, "Improved backing-off for m-gram language modeling"; Chen & Goodman 1998, "An empirical study of
smoothing techniques for language modeling", Harvard TR-10-98 (three discounts per order, estimated from counts of counts).

With h the k-1 tokens before w, and h' those without the first:

    p_k(w | h) = max(a(hw) - D_k(a(hw)), 0) / sum_v a(hv)  +  g(h) p_{k-1}(w | h'),      p_0(w) = 1 / vocab

where g(h) is the mass that the discounts freed, and p_k = p_{k-1} where h was never continued. At the highest order a is the
count; below it, the number of different tokens seen to the left (a document's beginning counts as a new one each time, so
n-grams that begin with the document's first token keep their counts, as is usual).

A document's first token is context only: it is neither counted nor scored. No n-gram crosses a document.

Every n-gram seen has a number within its order; a hash table finds it from (number of its first k-1 tokens, last token), a
pair that fits 63 bits, so nothing is approximated. Up to 2^31 tokens. Legend: N positions or nodes, D documents.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bloomery.data.compiled import compiled

_FALLBACK = (0.5, 1.0, 1.5)  # discounts where counts of counts give none, those of KenLM's --discount_fallback


@dataclass(frozen=True)
class Level:
    """The n-grams of one order k. A node is an n-gram; a context is a node of order k-1 (order 1 has the one context 0)."""

    keys: np.ndarray  # int64 (N,): context * vocab + last token
    slots: np.ndarray  # int32 (a power of two,): node or -1, by hash of its key, linear probing
    mass: np.ndarray  # float64 (N,): max(a - D, 0) / total of its context
    free: np.ndarray  # float64 (contexts,): share handed to the order below; 1 for a context never continued
    discounts: tuple[float, float, float]  # for a = 1, 2 and 3 or more


@dataclass(frozen=True)
class NGram:
    """A fitted model; `score` and `score_documents` give natural log-probabilities."""

    order: int
    vocab: int
    levels: tuple[Level, ...]  # levels[k-1] holds order k

    def score(self, ids: np.ndarray) -> np.ndarray:
        """Natural log-probability of ids[1:], each given all before it (at most order-1 of them); float64 (len(ids) - 1,)."""
        return self.score_documents(ids, np.array([0, len(ids)], np.int64))[1:]

    def score_documents(self, tokens: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Natural log-probability of each token of many documents (offsets as in `fit`), 0 at each document's first token."""
        tokens, offsets = _checked(tokens, offsets, self.vocab)
        begins = offsets[:-1]
        p = np.full(len(tokens), 1.0 / self.vocab)
        before = np.zeros(len(tokens), np.int32)  # node of the context that ends just before each position, -1 if never seen
        for k, level in enumerate(self.levels, start=1):
            node = _descend(tokens, before, p, level.keys, level.slots, level.mass, level.free, self.vocab)
            if k < self.order:
                before = _shift(node, begins)
        p[begins] = 1.0
        return np.log(p)

    def distribution(self, context: np.ndarray) -> np.ndarray:
        """Probability of every token after `context`, the document so far (at least its first token); float64 (vocab,)."""
        context = np.asarray(context, np.int64)
        rows = np.empty((self.vocab, len(context) + 1), np.int64)
        rows[:, :-1], rows[:, -1] = context, np.arange(self.vocab)
        return np.exp(self.score_documents(rows.reshape(-1), np.arange(self.vocab + 1) * rows.shape[1])[rows.shape[1] - 1 :: rows.shape[1]])


def fit(tokens: np.ndarray, offsets: np.ndarray, order: int, vocab: int) -> NGram:
    """Count and smooth. tokens: integers (N,) in [0, vocab); offsets: (D + 1,) starts of the documents and the end; each document
    begins with a token that is context only (bos). Raises ValueError for ids outside the vocabulary, no tokens, or an order below 1."""
    if order < 1:
        raise ValueError(f"order must be at least 1, got {order}")
    tokens, offsets = _checked(tokens, offsets, vocab)
    begins = offsets[:-1]
    if len(tokens) == len(begins):
        raise ValueError("an n-gram model needs a document with at least one token after its first")
    numbered, before = [], np.zeros(len(tokens), np.int32)
    for _ in range(order):
        numbered.append(_number(tokens, before, vocab))
        before = _shift(numbered[-1][2], begins)
    levels, contexts = [], 1
    for k, (keys, slots, node, _) in enumerate(numbered, start=1):
        if k == order:
            a = np.bincount(node[before >= 0 if k == 1 else node >= 0], minlength=len(keys))
        else:
            first_longer = numbered[k][3]
            a = np.bincount(node[first_longer], minlength=len(keys))  # one per n-gram of the next order that ends with this one
            if k > 1:
                a += np.bincount(node[_at(offsets, k - 1)], minlength=len(keys))
        levels.append(_level(keys, slots, a, contexts, vocab))
        contexts = len(keys)
    return NGram(order, vocab, tuple(levels))


def _level(keys: np.ndarray, slots: np.ndarray, a: np.ndarray, contexts: int, vocab: int) -> Level:
    """Discount the (adjusted) counts a of one order, and divide by the totals of their contexts."""
    context, discounts = keys // vocab, _discounts(a)
    off = np.array([0.0, *discounts])[np.minimum(a, 3)]
    total = np.bincount(context, weights=a, minlength=contexts)
    freed = np.bincount(context, weights=off, minlength=contexts)
    free = np.divide(freed, total, out=np.ones(contexts), where=total > 0)
    return Level(keys, slots, (a - off) / total[context], free, discounts)


def _discounts(a: np.ndarray) -> tuple[float, float, float]:
    """Chen & Goodman's D1, D2, D3+ from the counts of counts 1 to 4; fixed ones where those are missing or give nonsense."""
    t1, t2, t3, t4 = np.bincount(np.minimum(a, 5), minlength=6)[1:5].tolist()
    if not (t1 and t2 and t3):
        return _FALLBACK
    y = t1 / (t1 + 2 * t2)
    found = (1 - 2 * y * t2 / t1, 2 - 3 * y * t3 / t2, 3 - 4 * y * t4 / t3)
    return found if all(0 < d < j for j, d in enumerate(found, start=1)) else _FALLBACK


def _checked(tokens: np.ndarray, offsets: np.ndarray, vocab: int) -> tuple[np.ndarray, np.ndarray]:
    """Both as int64, or ValueError."""
    tokens, offsets = np.asarray(tokens, np.int64), np.asarray(offsets, np.int64)
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != len(tokens) or (np.diff(offsets) < 1).any():
        raise ValueError("offsets must rise from 0 to the number of tokens, at least one token per document")
    if tokens.min() < 0 or tokens.max() >= vocab:
        raise ValueError(f"token ids must lie in [0, {vocab}), found {tokens.min()} to {tokens.max()}")
    return tokens, offsets


def _at(offsets: np.ndarray, place: int) -> np.ndarray:
    """Positions of the tokens at `place` in the documents long enough to have one."""
    at = offsets[:-1] + place
    return at[at < offsets[1:]]


def _shift(node: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """What stands before each position: the node that ends one earlier, -1 at a document's beginning."""
    before = np.empty_like(node)
    before[1:] = node[:-1]
    before[begins] = -1
    return before


@compiled
def _slot(key, mask):
    z = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((z ^ (z >> np.uint64(32))) & np.uint64(mask))


@compiled
def _number(tokens, before, vocab):
    """Number the n-grams ending at each position -> keys (n,), slots, node of each position (-1 where before is), first position (n,)."""
    keys, first = np.empty(1024, np.int64), np.empty(1024, np.int32)
    slots = np.full(2048, -1, np.int32)
    node, count = np.full(len(tokens), -1, np.int32), 0
    for i in range(len(tokens)):
        if before[i] < 0:
            continue
        key = before[i] * vocab + tokens[i]
        s = _slot(key, len(slots) - 1)
        while slots[s] >= 0 and keys[slots[s]] != key:
            s = (s + 1) & (len(slots) - 1)
        if slots[s] < 0:
            if count == len(keys):  # half full: double everything
                keys, first = np.concatenate((keys, np.empty_like(keys))), np.concatenate((first, np.empty_like(first)))
                slots = np.full(4 * count, -1, np.int32)
                for n in range(count):
                    s = _slot(keys[n], len(slots) - 1)
                    while slots[s] >= 0:
                        s = (s + 1) & (len(slots) - 1)
                    slots[s] = n
                s = _slot(key, len(slots) - 1)
                while slots[s] >= 0:
                    s = (s + 1) & (len(slots) - 1)
            slots[s], keys[count], first[count] = count, key, i
            count += 1
        node[i] = slots[s]
    return keys[:count].copy(), slots, node, first[:count].copy()


@compiled
def _descend(tokens, before, p, keys, slots, mass, free, vocab):
    """Turn p of order k-1 into p of order k in place (N,), and return the node of each position, -1 if never seen."""
    node = np.full(len(tokens), -1, np.int32)
    for i in range(len(tokens)):
        if before[i] < 0:
            continue
        key = before[i] * vocab + tokens[i]
        s = _slot(key, len(slots) - 1)
        while slots[s] >= 0 and keys[slots[s]] != key:
            s = (s + 1) & (len(slots) - 1)
        node[i] = slots[s]
        p[i] *= free[before[i]]
        if node[i] >= 0:
            p[i] += mass[node[i]]
    return node
