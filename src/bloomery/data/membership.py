"""Texts that a model was trained on beside others of the same kind, cut alike: what tests of membership ask about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bloomery.data.excerpts import shuffled
from bloomery.seams import Doc, Item, Rng, Source

MEMBER, OTHER = "member", "other"  # kinds of items


def beginnings(source: Source, others: Sequence[Doc], length: int, count: int, rng: Rng) -> Iterator[Item]:
    """The first `length` tokens of trained documents and of others, equally many of each, at most `count`, in seeded order; none where
    either is missing. Shorter documents are left out."""
    kinds = {MEMBER: source.trained, OTHER: others}
    found = {kind: _texts(docs, source, length, count, rng.child(kind)) for kind, docs in kinds.items()}
    for kind, texts in found.items():
        for doc, text in texts[: min(map(len, found.values()))]:
            about = {"group": str(doc.meta.get("package", doc.id)), "kind": kind}
            yield Item(f"{kind}:{doc.id}", prompt="", want="score", target=text, **about)


def _texts(docs: Sequence[Doc], source: Source, length: int, count: int, rng: Rng) -> list[tuple[Doc, str]]:
    chosen: list[tuple[Doc, str]] = []
    for doc in shuffled(docs, rng):
        ids = source.tokenizer.encode(doc.text[: 32 * length])[:length]
        if len(ids) == length and len(chosen) < count:
            chosen.append((doc, source.tokenizer.decode(ids)))
    return chosen
