"""Task `retrieval`: documents found for queries, by BM25 and as a model ranks what BM25 found."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bloomery.core.errors import BadInput
from bloomery.data.bm25 import Bm25, searched
from bloomery.data.haystack import budget_of
from bloomery.data.questions import asked, group_of
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
        so what BM25 does not find stays lost, also to the embeddings of a model in the role `embedder`, which rank the same candidates.
        Long documents are read at their beginning.
    Costs: one forward pass over each of the candidates with the query, and one more of the embedder.
    """

    file: str = ""  # of the queries, without its ending; empty: those whose rows have query and gold_ids, or query and corpusids
    documents: str = ""  # file of the documents; empty: those whose rows have id and content, or corpusid, title and abstract
    count: int = 0  # queries at most; 0: all
    candidates: int = 20  # of BM25's best that the model ranks
    tokens: int = 256  # of a document that the model reads at most
    embedder: str = ""  # role of a further model whose embeddings rank the candidates too; empty: none
    subject = "model"
    metrics = {
        "retrieval_ndcg_10": ("score", "higher"),
        "retrieval_recall_5": ("share", "higher"),
        "retrieval_recall_20": ("share", "higher"),
    }  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if self.count < 0 or self.candidates < 2 or self.tokens < 16:
            raise ValueError("count must be at least 0, candidates at least 2 and tokens at least 16")

    @property
    def needs(self) -> tuple[str, ...]:
        """Embeddings, where a role is named for them."""
        return (f"embed:{self.embedder}",) if self.embedder else ()

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """One item for each candidate of each query, the query as what is scored. BadInput for a gold document that is not there."""
        forms = [("query",)] if self.file else [("query", "gold_ids"), ("query", "corpusids")]
        queries = [one for fields in forms for one in asked(source, self.file, fields, 0)]
        if not queries:
            return
        texts = searched(source, self.documents)
        names, index = list(texts), Bm25(list(texts.values()), "retrieval")
        for key, row in queries[: self.count or None]:
            gold = {str(one) for one in row.get("gold_ids", row.get("corpusids", ()))}
            hidden = {str(one) for one in row.get("excluded_ids") or ()}
            if lost := sorted(gold - texts.keys()) or (not gold and ["none named"]):
                raise BadInput(f"questions: {key}: its document {lost[0]} is not among the documents; mend the row or add the document")
            found = [name for i in index.best(str(row["query"]), self.candidates + len(hidden)) if (name := names[i]) not in hidden]
            found = found or [name for name in names if name not in hidden][:2]  # where no word is shared, the first
            for rank, name in enumerate(found[: self.candidates]):
                told = json.dumps({"rank": rank, "relevant": len(gold)})
                text = beginning(source, texts[name], str(row["query"]), self.tokens)
                kind = "right" if name in gold else "wrong"
                about = {"group": group_of(row, key), "kind": kind, "tests": told}
                yield Item(f"{key}/{rank}", FORM.replace("{document}", text), "score", f" {str(row['query']).strip()}", **about)

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score = mean log-probability of the query's tokens, in nats, without the document's end; part rank is BM25's,
        `cosine` that of the embeddings, where there are any. BadInput for embeddings without tools."""
        logp, held = episode.logp[:-1] or episode.logp, json.loads(item.tests)
        parts = {
            "logp": math.fsum(logp) / len(logp),
            "right": float(item.kind == "right"),
            **{name: float(one) for name, one in held.items()},
        }
        if self.embedder and tools is None:
            raise BadInput("embeddings need a model, and no tools are at hand; grade them through an evaluate step")
        if self.embedder:
            pair = [item.target.strip(), item.prompt.removesuffix(FORM.removeprefix("{document}"))]
            parts["cosine"] = cosine(*tools.embed(pair, self.embedder, "mean"))
        return Grade(parts["logp"], {**parts, "nats": -math.fsum(episode.logp)})

    def summary(self, rows: Rows, rng: Rng) -> dict[str, float]:
        """Each figure of the model's ranking, and of BM25's and the embeddings' as other subjects, with intervals clustered by group."""
        found: dict[str, float] = {}
        for subject, by in (("", "logp"), ("@bm25", ""), *([("@embeddings", "cosine")] if self.embedder else [])):
            columns, groups = measured(rows, by)
            for metric in METRICS:
                found |= mean(columns[metric], groups, rng).named(metric + subject)
        return found

    def compare(self, rows: Rows, others: Rows, rng: Rng) -> dict[str, float]:
        """Differences of the model's figures."""
        (mine, groups), (theirs, _) = measured(rows, "logp"), measured(others, "logp")
        found: dict[str, float] = {}
        for metric in METRICS:
            found |= paired(mine[metric], theirs[metric], [1.0] * len(groups), groups, rng).named(metric)
        return found


def cosine(one: Iterable[float], other: Iterable[float]) -> float:
    """Of the angle between two vectors; 0 for one of zeros."""
    one, other = [float(x) for x in one], [float(x) for x in other]
    norms = math.hypot(*one) * math.hypot(*other)
    return math.fsum(a * b for a, b in zip(one, other, strict=True)) / norms if norms else 0.0


def measured(rows: Rows, by: str) -> tuple[dict[str, list[float]], list[str]]:
    """The figures of every query, and its group: by a part of the grades, of equals by BM25's rank; by that alone without a part."""
    queries: dict[str, list[tuple[Item, Grade]]] = {}
    for item, _, grade in rows:
        queries.setdefault(item.id.rpartition("/")[0], []).append((item, grade))
    columns: dict[str, list[float]] = {metric: [] for metric in METRICS}
    for found in queries.values():
        order = sorted((grade for _, grade in found), key=lambda grade: (-grade.parts[by] if by else 0.0, grade.parts["rank"]))
        ranked, relevant = [grade.parts["right"] == 1 for grade in order], int(order[0].parts["relevant"])
        values = (ndcg(ranked, relevant), recall(ranked, relevant, 5), recall(ranked, relevant, 20))
        for metric, value in zip(METRICS, values, strict=True):
            columns[metric].append(value)
    return columns, [found[0][0].group for found in queries.values()]


def beginning(source: Source, text: str, query: str, tokens: int) -> str:
    """As many tokens of a text as fit with the query; BadInput for a context without room."""
    room = min(tokens, budget_of(source, 0, len(source.tokenizer.encode(FORM + query)) + 8))
    if room < 8:
        raise BadInput(f"retrieval: a context of {source.net.cfg.context} tokens has no room for a document and a query; take a longer one")
    ids = source.tokenizer.encode(text)
    return text if len(ids) <= room else source.tokenizer.decode(ids[:room])
