"""How many bits a model needs for each byte of held-out text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.data.excerpts import shuffled
from bloomery.num.statistics import paired, ratio
from bloomery.seams import Episode, Grade, Item, Rng, Source, Tools


@dataclass(frozen=True)
class BitsPerByte:
    """Bits per UTF-8 byte of whole held-out documents, the end of each document included.

    Source: standard practice; the code length view is Shannon 1948, "A mathematical theory of communication".
    Differs: bytes, not tokens, are below the line, so systems with other tokenizers, and general compressors, compare directly.
    Costs: one forward pass over the text.
    """

    bytes: int = 400_000  # UTF-8 bytes of text at most; a document that no longer fits is passed over
    subject = "model"
    metrics = {"bits_per_byte": ("bits/byte", "lower")}  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if self.bytes < 1:
            raise ValueError(f"bytes must be at least 1, got {self.bytes}")

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """Whole documents in seeded order until the bytes are spent; the smallest one where none fits. Empty ones are passed over."""
        left, any_fits = self.bytes, False
        docs = [doc for doc in source.docs if doc.text]
        for doc in shuffled(docs, rng.child("documents")):
            size = len(doc.text.encode())
            if size <= left:
                left, any_fits = left - size, True
                yield Item(doc.id, prompt="", want="score", target=doc.text, group=str(doc.meta.get("package", doc.id)))
        if not any_fits and docs:
            doc = min(docs, key=lambda doc: (len(doc.text.encode()), doc.id))
            yield Item(doc.id, prompt="", want="score", target=doc.text, group=str(doc.meta.get("package", doc.id)))

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score = bits per byte of this document; parts bits and bytes, which add up over documents."""
        bits, size = -math.fsum(episode.logp) / math.log(2), len(item.target.encode())
        return Grade(bits / size, {"bits": bits, "bytes": float(size)})

    def summary(self, rows: Sequence[tuple[Item, Episode, Grade]], rng: Rng) -> dict[str, float]:
        """All bits over all bytes, with an interval clustered by group."""
        bits, size = ([grade.parts[name] for _, _, grade in rows] for name in ("bits", "bytes"))
        return ratio(bits, size, [item.group for item, _, _ in rows], rng).named("bits_per_byte")

    def compare(
        self, rows: Sequence[tuple[Item, Episode, Grade]], others: Sequence[tuple[Item, Episode, Grade]], rng: Rng
    ) -> dict[str, float]:
        """The difference of the same figures, negative where `rows` need fewer bits."""
        bits = [[grade.parts["bits"] for _, _, grade in graded] for graded in (rows, others)]
        size, groups = [grade.parts["bytes"] for _, _, grade in rows], [item.group for item, _, _ in rows]
        return paired(*bits, size, groups, rng).named("bits_per_byte")
