"""Task `chunk_overlap`: how much of what is retrieved from a document is what was wanted, token by token, for a way of cutting it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.core.errors import BadInput
from bloomery.data.bm25 import Bm25
from bloomery.data.haystack import budget_of
from bloomery.data.questions import Row, asked, group_of
from bloomery.num.retrieval import ceiling, overlap
from bloomery.num.statistics import mean, paired
from bloomery.seams import Episode, Grade, Item, Rng, Source, Tools

Rows = Sequence[tuple[Item, Episode, Grade]]
FORM = "{chunk}\n\nA question that this text answers:"
TOKEN = re.compile(r"\w+|[^\w\s]")
MEASURES = ("iou", "precision", "recall")


@dataclass(frozen=True)
class ChunkOverlap:
    """Intersection over union of the tokens in retrieved chunks and in the spans that answer a question, by BM25 and by the model.

    P319 Jadon et al. 2025, arXiv 2502.15854
    Differs: chunks are of one number of tokens, which are words and marks, and do not overlap; the model ranks the best of BM25 by how
        likely it finds the question after each, in the place of embeddings; questions and spans are read, not written by a model.
        Precision omega, the ceiling that the cutting sets, is the precision of all chunks that hold a wanted token.
    Costs: one forward pass over each candidate with the question.
    """

    file: str = ""  # of the questions' folder, without its ending; empty: those whose rows have document, question and spans
    count: int = 0  # questions at most; 0: all
    size: int = 20  # tokens of a chunk
    retrieved: int = 3  # chunks that are taken
    candidates: int = 10  # of BM25's best that the model ranks
    subject = "model"
    metrics = {
        "chunk_iou": ("share", "higher"),
        "chunk_precision": ("share", "higher"),
        "chunk_recall": ("share", "higher"),
        "chunk_precision_omega": ("share", "higher"),
    }  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if self.count < 0 or min(self.size, self.retrieved) < 1 or self.candidates < self.retrieved:
            raise ValueError("count must be at least 0, size and retrieved at least 1 and candidates at least retrieved")

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """One item for each candidate of each question, which is what is scored. BadInput for spans outside the document."""
        for key, row in asked(source, self.file, ("document", "question", "spans"), self.count):
            wanted, question = spanned(key, row), str(row["question"]).strip()
            pieces, texts = zip(*cut(str(row["document"]), self.size), strict=True)
            told = {"omega": ceiling(pieces, wanted), "wanted": len(wanted)}
            best = Bm25(texts, "chunk_overlap").best(question, self.candidates)
            best += [i for i in range(len(pieces)) if i not in best][
                : max(0, self.retrieved - len(best))
            ]  # in order, where no word is shared
            for rank, i in enumerate(best):
                held = {**told, "rank": rank, "size": len(pieces[i]), "both": len(set(pieces[i]) & wanted)}
                about = {"group": group_of(row, key), "kind": f"chunk {i}", "tests": json.dumps(held), "question": key}
                prompt = FORM.replace("{chunk}", texts[i])
                if budget_of(source, 0, len(source.tokenizer.encode(f"{prompt} {question}")) + 4) < 0:
                    raise BadInput(
                        f"chunk_overlap: a context of {source.net.cfg.context} tokens has no room for a chunk; make size smaller"
                    )
                yield Item(f"{key}/{rank}", prompt, "score", f" {question}", **about)

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score = mean log-probability of the question's tokens, in nats, without the document's end; parts say what the chunk holds."""
        logp = episode.logp[:-1] or episode.logp
        parts = {name: float(one) for name, one in json.loads(item.tests).items()}
        return Grade(math.fsum(logp) / len(logp), {**parts, "nats": -math.fsum(episode.logp)})

    def summary(self, rows: Rows, rng: Rng) -> dict[str, float]:
        """The measures of the first `retrieved` chunks by the model's order, and by BM25's as another subject; the ceiling of precision."""
        questions, groups, found = *by_question(rows), {}
        for subject, model in (("", True), ("@bm25", False)):
            taken = [self._taken(one, model) for one in questions]
            for measure in MEASURES:
                found |= mean([one[measure] for one in taken], groups, rng).named(f"chunk_{measure}{subject}")
        return found | mean([one[0].parts["omega"] for one in questions], groups, rng).named("chunk_precision_omega@any order")

    def compare(self, rows: Rows, others: Rows, rng: Rng) -> dict[str, float]:
        """Differences of the measures by the models' orders."""
        (mine, groups), (theirs, _) = by_question(rows), by_question(others)
        taken = [[self._taken(one, True) for one in questions] for questions in (mine, theirs)]
        found: dict[str, float] = {}
        for measure in MEASURES:
            columns = [[one[measure] for one in some] for some in taken]
            found |= paired(*columns, [1.0] * len(groups), groups, rng).named(f"chunk_{measure}")
        return found

    def _taken(self, grades: list[Grade], model: bool) -> dict[str, float]:
        """Overlap of the chunks that stand first; their tokens are told by number alone, as chunks do not overlap."""
        order = sorted(grades, key=lambda grade: (-grade.score if model else 0.0, grade.parts["rank"]))[: self.retrieved]
        size, both = (int(math.fsum(grade.parts[name] for grade in order)) for name in ("size", "both"))
        wanted = int(order[0].parts["wanted"])
        return overlap(range(size), range(size - both, size - both + wanted))


def by_question(rows: Rows) -> tuple[list[list[Grade]], list[str]]:
    """The grades of each question's chunks, and the questions' groups."""
    questions: dict[str, list[tuple[Item, Grade]]] = {}
    for item, _, grade in rows:
        questions.setdefault(item.id.rpartition("/")[0], []).append((item, grade))
    return [[grade for _, grade in one] for one in questions.values()], [one[0][0].group for one in questions.values()]


def cut(text: str, size: int) -> list[tuple[range, str]]:
    """Chunks of `size` tokens, words and marks: the places of their tokens, and their text."""
    tokens = list(TOKEN.finditer(text))
    starts = range(0, len(tokens), size)
    groups = [range(start, min(start + size, len(tokens))) for start in starts]
    return [(one, text[tokens[one.start].start() : tokens[one.stop - 1].end()]) for one in groups]


def spanned(key: str, row: Row) -> set[int]:
    """Places of the tokens of all spans, given as (start, stop) in characters or as text that stands in the document."""
    document, places = str(row["document"]), set()
    for span in row["spans"]:
        start = document.find(span) if isinstance(span, str) else int(span[0])
        stop = start + len(span) if isinstance(span, str) else int(span[1])
        if not 0 <= start < stop <= len(document):
            raise BadInput(f"questions: {key}: the span {span!r} does not stand in its document; mend the row")
        places |= {i for i, token in enumerate(TOKEN.finditer(document)) if token.start() < stop and token.end() > start}
    if not places:
        raise BadInput(f"questions: {key}: spans hold no word; mend the row or leave it out")
    return places
