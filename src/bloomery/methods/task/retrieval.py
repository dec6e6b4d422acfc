"""Task `retrieval`: documents found for queries, by BM25 and as a model ranks what BM25 found."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bloomery.core.errors import BadInput
from bloomery.data.bm25 import Bm25
from bloomery.data.haystack import budget_of
from bloomery.data.questions import Row, asked, group_of
from bloomery.num.retrieval import ndcg, recall
from bloomery.num.statistics import mean, paired
from bloomery.seams import Episode, Grade, Item, Rng, Source, Tools

Rows = Sequence[tuple[Item, Episode, Grade]]
FORM = "{document}\n\nA question that this text answers:"
METRICS = ("retrieval_ndcg_10", "retrieval_recall_5", "retrieval_recall_20")


@dataclass(frozen=True)
class Retrieval:
    """nDCG@10 and recall of the documents that belong to a query, as BM25 ranks them and as the model ranks BM25's best.

    P339 Su et al. 2024, arXiv 2407.12883 (BRIGHT); the form of P331 Ajith et al. 2024, arXiv 2407.18940 (LitSearch) is read too.
    Differs: a model ranks the `candidates` best of BM25 by how likely it finds the query after each (Sachan et al. 2022, arXiv 2204.07496),
        so what BM25 does not find stays lost; embeddings are not ranked. Long documents are read at their beginning.
    Costs: one forward pass over each of the candidates with the query.
    """

    file: str = ""  # of the queries, without its ending; empty: those whose rows have query and gold_ids, or query and corpusids
    documents: str = ""  # file of the documents; empty: those whose rows have id and content, or corpusid, title and abstract
    count: int = 0  # queries at most; 0: all
    candidates: int = 20  # of BM25's best that the model ranks
    tokens: int = 256  # of a document that the model reads at most
    subject = "model"
    metrics = {
        "retrieval_ndcg_10": ("score", "higher"),
        "retrieval_recall_5": ("share", "higher"),
        "retrieval_recall_20": ("share", "higher"),
    }  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if self.count < 0 or self.candidates < 2 or self.tokens < 16:
            raise ValueError("count must be at least 0, candidates at least 2 and tokens at least 16")

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """One item for each candidate of each query, the query as what is scored. BadInput for a gold document that is not there."""
        queries = (
            [one for fields in (("query", "gold_ids"), ("query", "corpusids")) for one in asked(source, self.file, fields, 0)]
            if not self.file
            else list(asked(source, self.file, ("query",), 0))
        )
        if not queries:
            return
        texts = corpus(source, self.documents)
        names, index = list(texts), Bm25(list(texts.values()), "retrieval")
        for key, row in queries[: self.count or None]:
            gold = {str(one) for one in row.get("gold_ids", row.get("corpusids", ()))}
            hidden = {str(one) for one in row.get("excluded_ids") or ()}
            if lost := sorted(gold - texts.keys()) or (not gold and ["none named"]):
                raise BadInput(f"questions: {key}: its document {lost[0]} is not among the documents; mend the row or add the document")
            found = [name for i in index.best(str(row["query"]), self.candidates + len(hidden)) if (name := names[i]) not in hidden]
            for rank, name in enumerate(found[: self.candidates]):
                told = json.dumps({"rank": rank, "relevant": len(gold)})
                text = beginning(source, texts[name], str(row["query"]), self.tokens)
                kind = "right" if name in gold else "wrong"
                about = {"group": group_of(row, key), "kind": kind, "tests": told}
                yield Item(f"{key}/{rank}", FORM.replace("{document}", text), "score", f" {str(row['query']).strip()}", **about)

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score = mean log-probability of the query's tokens, in nats, without the document's end; part rank is BM25's."""
        logp, held = episode.logp[:-1] or episode.logp, json.loads(item.tests)
        parts = {"right": float(item.kind == "right"), **{name: float(one) for name, one in held.items()}}
        return Grade(math.fsum(logp) / len(logp), {**parts, "nats": -math.fsum(episode.logp)})

    def summary(self, rows: Rows, rng: Rng) -> dict[str, float]:
        """Each figure of the model's ranking, and of BM25's as another subject, with intervals clustered by group."""
        found: dict[str, float] = {}
        for subject, model in (("", True), ("@bm25", False)):
            columns, groups = measured(rows, model)
            for metric in METRICS:
                found |= mean(columns[metric], groups, rng).named(metric + subject)
        return found

    def compare(self, rows: Rows, others: Rows, rng: Rng) -> dict[str, float]:
        """Differences of the model's figures."""
        (mine, groups), (theirs, _) = measured(rows, True), measured(others, True)
        found: dict[str, float] = {}
        for metric in METRICS:
            found |= paired(mine[metric], theirs[metric], [1.0] * len(groups), groups, rng).named(metric)
        return found


def measured(rows: Rows, model: bool) -> tuple[dict[str, list[float]], list[str]]:
    """The figures of every query, and its group: by the model's scores, or by BM25's ranks. Of equal scores BM25's order decides."""
    queries: dict[str, list[tuple[Item, Grade]]] = {}
    for item, _, grade in rows:
        queries.setdefault(item.id.rpartition("/")[0], []).append((item, grade))
    columns: dict[str, list[float]] = {metric: [] for metric in METRICS}
    for found in queries.values():
        order = sorted((grade for _, grade in found), key=lambda grade: (-grade.score if model else 0.0, grade.parts["rank"]))
        ranked, relevant = [grade.parts["right"] == 1 for grade in order], int(order[0].parts["relevant"])
        values = (ndcg(ranked, relevant), recall(ranked, relevant, 5), recall(ranked, relevant, 20))
        for metric, value in zip(METRICS, values, strict=True):
            columns[metric].append(value)
    return columns, [found[0][0].group for found in queries.values()]


def corpus(source: Source, file: str) -> dict[str, str]:
    """Documents by id, in either form. BadInput where there are none."""
    found: dict[str, str] = {}
    for fields in (("id", "content"), ("corpusid", "title", "abstract")):
        if not file or all(name in source.questions.get(file, [{}])[0] for name in fields):
            for _, row in asked(source, file, fields, 0):
                found[str(row[fields[0]])] = text_of(row)
    if not found:
        raise BadInput("questions: retrieval finds no documents; add a file of rows with id and content, or corpusid, title and abstract")
    return found


def text_of(row: Mapping | Row) -> str:
    """The text of a document: its content, or title and abstract."""
    return str(row["content"]) if "content" in row else f"{row['title'] or ''}\n{row['abstract'] or ''}".strip()


def beginning(source: Source, text: str, query: str, tokens: int) -> str:
    """As many tokens of a text as fit with the query; BadInput for a context without room."""
    room = min(tokens, budget_of(source, 0, len(source.tokenizer.encode(FORM + query)) + 8))
    if room < 8:
        raise BadInput(f"retrieval: a context of {source.net.cfg.context} tokens has no room for a document and a query; take a longer one")
    ids = source.tokenizer.encode(text)
    return text if len(ids) <= room else source.tokenizer.decode(ids[:room])
