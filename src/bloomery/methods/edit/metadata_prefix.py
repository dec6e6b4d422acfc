"""Edit `metadata_prefix`: what is known of a document stands before it."""

from __future__ import annotations

from dataclasses import dataclass

from bloomery.core.rng import python_rng
from bloomery.data.spans import changed
from bloomery.seams import Doc, Drop, Rng, Tools

KNOWN = ("path", "package", "domain", "licence", "source", "url", "title", "date")


@dataclass(frozen=True)
class MetadataPrefix:
    """Puts metadata before most documents, not to be trained on, so that a model learns where text comes from; the rest stay plain.

    P048 Gao et al. 2025, arXiv 2501.01956
    Differs: any metadata of the corpus, not a web address alone; plain documents are a drawn share among the others instead of a last
        phase of training, which is a second recipe step with `share: 0`.
    Costs: one copy of the text.
    """

    fields: tuple[str, ...] = ("domain",)  # of path, package, domain, licence, source, url, title, date; empty ones are left out
    share: float = 0.9  # of the documents that get a prefix
    between: str = "\n\n"  # after the prefix

    def __post_init__(self) -> None:
        if not self.fields or not set(self.fields) <= set(KNOWN):
            raise ValueError(f"fields are some of {', '.join(KNOWN)}")
        if not 0 <= self.share <= 1:
            raise ValueError("share must be from 0 to 1")

    def edit(self, doc: Doc, tools: Tools | None, rng: Rng) -> list[Doc] | Drop:
        """The document itself, or one with `name: value` lines before it, whose spans leave the prefix out."""
        said = [f"{name}: {' '.join(str(doc.meta[name]).split())}" for name in self.fields if doc.meta.get(name)]
        if not said or not doc.text or python_rng(rng).random() >= self.share:
            return [doc]
        prefix = "\n".join(said) + self.between
        spans = doc.spans or [(0, len(doc.text), 1.0)]
        made = changed(Doc(doc.id, doc.text, doc.meta), [(0, 0, prefix)])
        shifted = [(start + len(prefix), stop + len(prefix), weight) for start, stop, weight in spans]
        return [Doc(doc.id, made.text, {**doc.meta, "prefix": len(prefix)}, shifted)]
