"""How much of a text was seen in training: the share of its runs of 13 words that any training document holds.

Source: Brown et al. 2020, "Language Models are Few-Shot Learners", arXiv 2005.14165, appendix C (13-gram overlap).
Words are runs of letters, digits, underscores and non-ASCII bytes, ASCII letters in lower case, so white space and punctuation
do not hide a copy. Runs are compared by 64-bit hashes: a false match has odds of (runs compared) / 2^64.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from bloomery.data.compiled import compiled

WORDS = 13
COPIED = 0.8  # a document of which this share was seen counts as seen


def seen_shares(texts: Sequence[str], training: Iterable[Sequence[str]], words: int = WORDS) -> np.ndarray:
    """Share of each text's runs of words found in any training text; `training` comes in groups of any size. float64 (texts,).

    A text of fewer than `words` words is one run: all its words, so it was seen where a training text of the same few words is.
    """
    if words < 1:
        raise ValueError(f"words must be at least 1, got {words}")
    hashes, owner = run_hashes(texts, words)
    wanted, place = np.unique(hashes, return_inverse=True)
    found = np.zeros(len(wanted), bool)
    for group in training:
        other, _ = run_hashes(group, words)
        if len(wanted) and len(other):
            at = np.minimum(np.searchsorted(wanted, other), len(wanted) - 1)
            found[at[wanted[at] == other]] = True
    runs = np.bincount(owner, minlength=len(texts))
    return np.bincount(owner, weights=found[place], minlength=len(texts)) / np.maximum(runs, 1)


def run_hashes(texts: Sequence[str], words: int) -> tuple[np.ndarray, np.ndarray]:
    """Hash of every run of `words` words and the number of the text it stands in: uint64 and int64 (runs,)."""
    if not texts:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    parts = [text.encode("utf-8", "surrogatepass") for text in texts]
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    return _run_hashes(np.frombuffer(b"".join(parts), np.uint8), offsets, words, _word_bytes())


def _word_bytes() -> np.ndarray:
    """Each byte in lower case where it belongs to a word, else 0; uint8 (256,)."""
    table = np.zeros(256, np.uint8)
    for byte in range(256):
        if byte >= 128 or chr(byte).isalnum() or byte == ord("_"):
            table[byte] = ord(chr(byte).lower()) if byte < 128 else byte
    return table


@compiled
def _run_hashes(data, offsets, words, table):
    hashes, owner = np.empty(len(data) // 2 + len(offsets), np.uint64), np.empty(len(data) // 2 + len(offsets), np.int64)
    recent, count = np.empty(words, np.uint64), 0
    for d in range(len(offsets) - 1):
        seen, word, first = 0, np.uint64(0), count
        for i in range(offsets[d], offsets[d + 1] + 1):
            c = table[data[i]] if i < offsets[d + 1] else 0
            if c:
                word = (word + np.uint64(c)) * np.uint64(0x9E3779B97F4A7C15)
                word ^= word >> np.uint64(29)
            elif word:
                recent[seen % words] = word
                seen, word = seen + 1, np.uint64(0)
                if seen >= words:
                    hashes[count], owner[count], count = _joined(recent, seen, words), d, count + 1
        if 0 < seen < words and count == first:
            hashes[count], owner[count], count = _joined(recent, seen, seen), d, count + 1
    return hashes[:count].copy(), owner[:count].copy()


@compiled
def _joined(recent, seen, words):
    """The hash of the last `words` of `seen` words, in order."""
    joined = np.uint64(words)
    for k in range(seen - words, seen):
        joined = (joined ^ recent[k % len(recent)]) * np.uint64(0xFF51AFD7ED558CCD)
        joined ^= joined >> np.uint64(33)
    return joined
