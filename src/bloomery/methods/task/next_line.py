"""Whether a model writes exactly the line that comes next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.core.rng import python_rng
from bloomery.data.excerpts import line_ends, prompt_tokens, shuffled
from bloomery.num.statistics import share
from bloomery.seams import Doc, Episode, Grade, Item, Rng, Source, Tools


@dataclass(frozen=True)
class NextLine:
    """Exact match of the line after a prompt, the beginning of a held-out document; spaces at the line's end do not count.

    Source: standard practice (line completion).
    Differs: the prompt ends before the line feed, where tokens break; the reference is never blank, and fits `limit` tokens.
    Costs: `count` completions of at most `limit` tokens.
    """

    count: int = 96  # lines, one per document
    prompt: int = 192  # tokens of a prompt at most
    limit: int = 40  # tokens of a line at most, its line feeds included
    subject = "model"
    metrics = {"next_line_exact": ("share", "higher")}  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if self.count < 1 or self.prompt < 16 or self.limit < 4:
            raise ValueError("count must be at least 1, prompt at least 16 and limit at least 4")

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """One line from each of the first `count` documents, in seeded order, that have a place to cut."""
        left = self.count
        for doc in shuffled(source.docs, rng.child("documents")):
            cut = self._cut(doc, source, rng.child("cut", doc.id)) if left else 0
            if cut:
                left -= 1
                line = doc.text[cut + 1 : doc.text.index("\n", cut + 1)].rstrip()
                yield Item(doc.id, doc.text[:cut], "generate", line, self.limit, group=str(doc.meta.get("package", doc.id)))

    def _cut(self, doc: Doc, source: Source, rng: Rng) -> int:
        """A line end in the first `prompt` tokens before a whole line that is neither blank nor too long; 0 where there is none."""
        ends = line_ends(doc.text, 80, min(8 * self.prompt, len(doc.text)))
        python_rng(rng).shuffle(ends)
        for cut in ends:
            end = doc.text.find("\n", cut + 1)
            if end < 0 or not doc.text[cut + 1 : end].strip():
                continue
            ids = prompt_tokens(source.tokenizer, doc.text, cut)
            if ids is not None and len(ids) <= self.prompt and len(source.tokenizer.encode(doc.text[cut : end + 1])) <= self.limit:
                return cut
        return 0

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score 1 where the first whole line written is the reference, else 0. A line that the limit cut is not whole."""
        begin, _, rest = episode.text.partition("\n")
        line, end, _ = rest.partition("\n")
        whole = bool(end) or episode.ended == "stop"
        return Grade(float(whole and not begin.strip() and line.rstrip() == item.target))

    def summary(self, rows: Sequence[tuple[Item, Episode, Grade]], rng: Rng) -> dict[str, float]:
        """The share of exact matches, with an interval clustered by group."""
        return share([grade.score for _, _, grade in rows], [item.group for item, _, _ in rows], rng).named("next_line_exact")
