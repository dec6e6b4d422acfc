"""How well a vocabulary fits text: bytes per token of each domain, scripts, whole characters, parity between languages.

Source: P411 Chelombitko, Safronov & Komissarov 2024 (Qtok) for scripts and completeness; parity is the premium of Petrov et al. 2023, arXiv
2305.15425. Differs: a script is the first word of a letter's Unicode name, so CJK is one; what Qtok reads off the vocabulary alone is
weighed by held-out text besides.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from bloomery.core.errors import near
from bloomery.data.shards import Shards

FRAME = 2  # begin and end token of each document


@lru_cache(maxsize=1 << 16)
def script(letter: str) -> str:
    """The script of a letter, such as latin, cyrillic or cjk; empty for all that is no letter."""
    return unicodedata.name(letter, "unnamed").split()[0].lower() if unicodedata.category(letter)[0] == "L" else ""


def scripts(text: str) -> Counter[str]:
    """Letters of each script."""
    found: Counter[str] = Counter()
    for letter, count in Counter(text).items():
        if name := script(letter):
            found[name] += count
    return found


def whole(pieces: Sequence[bytes]) -> list[str | None]:
    """The text of each token that holds whole characters only; None for bytes of a broken one."""
    found: list[str | None] = []
    for piece in pieces:
        try:
            found.append(piece.decode())
        except UnicodeDecodeError:
            found.append(None)
    return found


def completeness(pieces: Sequence[bytes], uses: np.ndarray, texts: Iterable[str]) -> dict[str, Any]:
    """What becomes of the characters of `texts`, whose tokens are used `uses` times each (V,).

    `broken` is the share of bytes in tokens that are no whole characters. `scripts` says for each script of the vocabulary or the
    text: `tokens` that hold letters of it, `letters` of it in the text, and `whole`, the share of those that lie within one token.
    """
    words, sizes = whole(pieces), np.array([len(piece) for piece in pieces], np.int64)
    bad = np.array([word is None for word in words], bool)
    all_bytes = int((uses * sizes).sum())
    tokens, inside, letters = Counter(), Counter(), Counter()  # type: ignore[var-annotated]
    for i, word in enumerate(words):
        for name, count in scripts(word or "").items():
            tokens[name] += 1
            inside[name] += count * int(uses[i])
    for text in texts:
        letters.update(scripts(text))
    names = sorted({*tokens, *letters}, key=lambda name: (-letters[name], -tokens[name], name))
    rows = {
        name: {"tokens": tokens[name], "letters": letters[name], "whole": inside[name] / letters[name] if letters[name] else None}
        for name in names
    }
    return {"broken": float((uses * sizes)[bad].sum() / all_bytes) if all_bytes else 0.0, "scripts": rows}


def uses(shards: Shards, rows: int, vocab: int) -> np.ndarray:
    """How often each id stands in the first documents, (V,)."""
    if not rows:
        return np.zeros(vocab, np.int64)
    stop = int(shards.starts[rows - 1] + shards.lengths[rows - 1])
    return np.bincount(shards.span(0, stop), minlength=vocab)[:vocab]


def by_domain(parts: Sequence[Shards]) -> dict[str, dict[str, int]]:
    """Documents, bytes and tokens, begin and end not counted, of each domain over all parts; empty where none is known."""
    found: dict[str, dict[str, int]] = {}
    for shards in parts:
        places, names = shards.domains()
        for k, name in enumerate(names) if places is not None else ():
            mine = places == k
            row = found.setdefault(name, {"documents": 0, "bytes": 0, "tokens": 0})
            for unit, number in zip(row, (mine.sum(), shards.bytes[mine].sum(), (shards.lengths[mine] - FRAME).sum()), strict=True):
                row[unit] += int(number)
    return dict(sorted(found.items()))


def bytes_per_token(domains: Mapping[str, Mapping[str, int]]) -> dict[str, float]:
    """Bytes of text that a token of each domain stands for."""
    return {name: row["bytes"] / row["tokens"] for name, row in domains.items() if row["tokens"]}


def parity(domains: Mapping[str, Mapping[str, int]], parallel: Sequence[str]) -> dict[str, float]:
    """Tokens of a document in each of the domains that say the same, over those of the domain that needs fewest: 1 is the best.

    Raises ValueError for a domain without documents, and for numbers of documents more than a tenth apart, which cannot say the same.
    """
    missing = [name for name in parallel if not domains.get(name, {}).get("tokens")]
    if missing:
        raise ValueError(f"no document is of the domain {missing[0]!r}; {near(missing[0], sorted(domains))}")
    counts = [domains[name]["documents"] for name in parallel]
    if min(counts) < 0.9 * max(counts):
        raise ValueError(f"the domains have {' and '.join(map(str, counts))} documents, and texts that say the same have as many")
    each = {name: domains[name]["tokens"] / domains[name]["documents"] for name in parallel}
    return {name: value / min(each.values()) for name, value in each.items()}
