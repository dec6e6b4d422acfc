"""Documents to be searched, and their ranking by BM25 through the package bm25s."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.data.questions import asked
from bloomery.seams import Source


class Bm25:
    """An index over texts in memory; words in small letters, neither stemmed nor stopped.

    Source: Robertson & Zaragoza 2009, doi 10.1561/1500000019, in Lucene's form, k1 1.5 and b 0.75.
    """

    def __init__(self, texts: Sequence[str], who: str) -> None:
        """BadInput, in the name of who asks, where the package is missing or there is no text."""
        try:
            from bm25s import BM25
        except ModuleNotFoundError:
            raise BadInput(f"{who} needs the package bm25s: pip install -c constraints.txt 'bloomery[retrieval]'") from None
        if not any(map(words, texts)):
            raise BadInput(f"{who}: there is no document with a word in it to be searched")
        self.size = len(texts)
        self.inner: Any = BM25(method="lucene", k1=1.5, b=0.75)
        self.inner.index([words(text) for text in texts], show_progress=False)

    def best(self, query: str, count: int) -> list[int]:
        """Places of the best documents, best first, of equals the earlier; those that share no word with the query are left out."""
        known = [word for word in words(query) if word in self.inner.vocab_dict]
        if not known:
            return []
        scores = self.inner.get_scores(known)
        order = sorted(range(self.size), key=lambda i: (-scores[i], i))
        return [i for i in order[:count] if scores[i] > 0]


def words(text: str) -> list[str]:
    """Words in small letters."""
    return re.findall(r"\w+", text.lower())


def searched(source: Source, file: str) -> dict[str, str]:
    """Documents by id, of rows with id and content, or with corpusid, title and abstract; of one file, or of all that have such rows.

    BadInput where there are none, and for an id that two documents have, as those of two collections may.
    """
    found: dict[str, str] = {}
    for fields in (("id", "content"), ("corpusid", "title", "abstract")):
        if not file or all(name in (source.questions.get(file) or [{}])[0] for name in fields):
            for _, row in asked(source, file, fields, 0):
                key = str(row[fields[0]])
                text = str(row["content"]) if "content" in fields else f"{row['title'] or ''}\n{row['abstract'] or ''}".strip()
                if found.setdefault(key, text) != text:
                    raise BadInput(f"questions: two documents have the id {key}; name the file of one collection in `documents`")
    if not found:
        raise BadInput("questions: there are no documents; add a file of rows with id and content, or corpusid, title and abstract")
    return found
