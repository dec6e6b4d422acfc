"""The fast way from text to ids: byte-level BPE in compiled code, with the ids that `tokenizers` gives, or not at all.

Measured by benchmarks/encoding.py; docs/tokenizers.md says what makes it fast.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from bloomery.data import merges, pretokens
from bloomery.data.token_bytes import letters

WAYS = 1 << 15  # slots of a thread's cache: 4 MiB
ODD = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges")
A, B = TypeVar("A"), TypeVar("B")


class Encoder:
    """Ids of texts, without begin and end tokens; threads may call it side by side, each has a cache of its own."""

    def __init__(self, singles: np.ndarray, pairs: dict[tuple[int, int], tuple[int, int]], digits: int, special: Sequence[str]) -> None:
        """`singles` is the id of each byte, `pairs` says (rank, id) of each merge, `digits` names the pattern (pretokens.DIGITS);
        texts with one of the `special` strings are somebody else's."""
        self.singles, self.digits, self.special = singles, digits, tuple(special)
        self.keys, self.values = merges.pair_table(pairs)
        self._local = threading.local()

    @classmethod
    def of(cls, inner: Any) -> Encoder | None:
        """The encoder of a `tokenizers.Tokenizer`; None where something in it is not known here, which leaves the library's own."""
        spec = json.loads(inner.to_str())
        model, words = spec["model"], spec["model"].get("vocab")
        digits = pretokens.DIGITS.get(_pattern(spec.get("pre_tokenizer")) or "")
        if model.get("type") != "BPE" or spec.get("normalizer") or digits is None or any(map(model.get, ODD)):
            return None
        singles = [words.get(letter) for letter in letters()]
        if None in singles:
            return None
        by_byte = dict(zip(letters().values(), singles, strict=True))
        pairs = {}
        for rank, merge in enumerate(model["merges"]):
            left, right = merge.split(" ") if isinstance(merge, str) else merge
            pairs[words[left], words[right]] = rank, words[left + right]
        added = [token["content"] for token in spec.get("added_tokens") or [] if not (token["special"] and inner.encode_special_tokens)]
        return cls(np.array([by_byte[bytes([byte])] for byte in range(256)], np.uint32), pairs, digits, added)

    def encode(self, texts: Sequence[str], frame: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray] | None:
        """The ids of all texts one after the other (uint32), each between the two ids of `frame`, and how many each has (int64).

        None where a text holds the name of a token that stands for itself: the library cuts such texts.
        """
        if self.special and any(word in text for text in texts for word in self.special):
            return None
        written = [text.encode() for text in texts]
        offsets = np.zeros(len(texts) + 1, np.int64)
        np.cumsum([len(one) for one in written], out=offsets[1:])
        codes = np.frombuffer(b"".join((*written, bytes(merges.PAD))), np.uint8)
        ids, counts = np.empty(int(offsets[-1]) + 2 * len(texts), np.uint32), np.empty(len(texts), np.int64)
        edges = np.array(frame or (-1, -1), np.int64)
        while True:
            made = merges.encode(
                codes, offsets, edges, self.digits, pretokens.kinds(), self.singles, self.keys, self.values, self._cache(), ids, counts
            )
            if made >= 0:
                return ids[:made].copy(), counts
            pretokens.learn_kinds(texts)

    def _cache(self) -> np.ndarray:
        if not hasattr(self._local, "cache"):
            self._local.cache = np.zeros((WAYS, merges.SLOT), np.uint64)
        return self._local.cache


def _pattern(pre: dict[str, Any] | None) -> str | None:
    """The pattern that cuts the text of a byte-level vocabulary; None for a way of cutting that is not known here."""
    steps = (pre or {}).get("pretokenizers") or ([pre] if pre else [])
    if not steps or steps[-1].get("type") != "ByteLevel" or steps[-1].get("add_prefix_space") is not False:
        return None
    if len(steps) == 1:
        return pretokens.GPT2 if steps[0].get("use_regex") else None
    cut = steps[0]
    plain = cut.get("type") == "Split" and cut.get("behavior") == "Isolated" and not cut.get("invert")
    return cut["pattern"].get("Regex") if len(steps) == 2 and plain and not steps[-1].get("use_regex") else None


def in_order(function: Callable[[A], B], items: Iterable[A], workers: int) -> Iterator[B]:
    """`function` over items on threads, in the order of the items; two items a thread are in flight at most, so memory is bounded."""
    if workers == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()
