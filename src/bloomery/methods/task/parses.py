"""Whether what a model writes after the beginning of a Python file is still Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.core.rng import python_rng
from bloomery.data.excerpts import continuation, line_ends, prompt_tokens, shuffled
from bloomery.data.python_text import goes_on, parsed
from bloomery.num.statistics import share
from bloomery.seams import Doc, Episode, Grade, Item, Rng, Source, Tools


@dataclass(frozen=True)
class Parses:
    """Share of completions that parse as Python together with their prompt, the beginning of a held-out .py file.

    Source: standard practice.
    Differs: the text is parsed by the running interpreter's `ast`, never executed. A completion cut by the token limit ends in the
        middle of something, so trailing lines may be left off until prompt and rest parse, as long as `keep` of its lines that
        are not blank (and at least one) remain. The real continuation, cut at the same number of tokens, is graded alike: the
        share that is reachable.
    Costs: `count` completions of `limit` tokens.
    """

    count: int = 64  # completions, one per document
    prompt: int = 192  # tokens of a prompt at most
    limit: int = 96  # tokens of a completion at most
    keep: float = 0.5  # share of a completion's lines that must parse
    subject = "model"
    metrics = {"parses": ("share", "higher")}  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if min(self.count, self.limit) < 1 or self.prompt < 16:
            raise ValueError("count and limit must be at least 1 and prompt at least 16")
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep must be above 0 and at most 1, got {self.keep}")

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """One prompt from each of the first `count` documents, in seeded order, that are Python and have a place to cut."""
        left = self.count
        for doc in shuffled(source.docs, rng.child("documents")):
            if left and str(doc.meta.get("path", "")).endswith(".py") and parsed(doc.text):
                cut = self._cut(doc, source, rng.child("cut", doc.id))
                if cut:
                    left -= 1
                    target = continuation(source.tokenizer, doc.text, cut, self.limit)
                    yield Item(doc.id, doc.text[:cut], "generate", target, self.limit, group=str(doc.meta.get("package", doc.id)))

    def _cut(self, doc: Doc, source: Source, rng: Rng) -> int:
        """A line end in the first `prompt` tokens up to which the text parses, three lines before its end; 0 if there is none."""
        ends = line_ends(doc.text, 80, min(8 * self.prompt, len(doc.text.rstrip())))
        ends = [cut for cut in ends if doc.text.count("\n", cut, cut + 2000) > 3]
        python_rng(rng).shuffle(ends)
        for cut in ends:
            ids = prompt_tokens(source.tokenizer, doc.text, cut)
            if ids is not None and len(ids) <= self.prompt and parsed(doc.text[:cut] + "\n"):
                return cut
        return 0

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score 1 where the completion parses, else 0; part `real` says the same of the real continuation."""
        score = goes_on(item.prompt, episode.text, episode.ended == "stop", self.keep)
        return Grade(float(score), {"real": float(goes_on(item.prompt, item.target, False, self.keep))})

    def summary(self, rows: Sequence[tuple[Item, Episode, Grade]], rng: Rng) -> dict[str, float]:
        """The model's share and that of real text, with intervals clustered by group."""
        groups = [item.group for item, _, _ in rows]
        model = share([grade.score for _, _, grade in rows], groups, rng)
        return model.named("parses") | share([grade.parts["real"] for _, _, grade in rows], groups, rng).named("parses@reference text")
