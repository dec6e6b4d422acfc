"""Task `retrieval`: documents found for queries, by BM25, as a model ranks what BM25 found, and by the embeddings of another."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
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
DEEPEST = 20  # place of a ranking that is looked at


@dataclass(frozen=True)
class Retrieval:
    """nDCG@10 and recall of the documents that belong to a query, as BM25 ranks them and as the model ranks BM25's best.

    P339 Su et al. 2024, arXiv 2407.12883 (BRIGHT); the form of P331 Ajith et al. 2024, arXiv 2407.18940 (LitSearch) is read too.
    Differs: a model ranks the `candidates` best of BM25 by how likely it finds the query after each (Sachan et al. 2022, arXiv 2204.07496),
        so what BM25 does not find stays lost to it. The embeddings of a model in the role `embedder`, the mean of its last hidden states,
        search all documents, without an instruction before query or document. Long documents are read at their beginning.
    Costs: one forward pass over each of the candidates with the query, and one of the embedder over every document and query.
    """

    file: str = ""  # of the queries, without its ending; empty: those whose rows have query and gold_ids, or query and corpusids
    documents: str = ""  # file of the documents; empty: those whose rows have id and content, or corpusid, title and abstract
    count: int = 0  # queries at most; 0: all
    candidates: int = 20  # of BM25's best that the model ranks
    tokens: int = 256  # of a document that the model reads at most
    embedder: str = ""  # role of a further model whose embeddings search all documents; empty: none
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
        """A search by embeddings, where a role is named for them."""
        return (f"search:{self.embedder}",) if self.embedder else ()

    def library(self, source: Source) -> dict[str, str]:
        """What is searched by embeddings: the beginning of every document, by id."""
        texts = searched(source, self.documents) if self.embedder else {}
        ids = {name: source.tokenizer.encode(text) for name, text in texts.items()}
        return {name: texts[name] if len(one) <= self.tokens else source.tokenizer.decode(one[: self.tokens]) for name, one in ids.items()}

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
            lost, found = not found, found or [name for name in names if name not in hidden][:2]  # where no word is shared, any two
            for rank, name in enumerate(found[: self.candidates]):
                sets = {} if rank else {"gold": sorted(gold), "hidden": sorted(hidden)}
                told = json.dumps({"rank": rank, "relevant": len(gold), **sets})
                text = beginning(source, texts[name], str(row["query"]), self.tokens)
                kind = "right" if name in gold and not lost else "wrong"
                about = {"group": group_of(row, key), "kind": kind, "tests": told, "question": key}
                yield Item(f"{key}/{rank}", FORM.replace("{document}", text), "score", f" {str(row['query']).strip()}", **about)

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score = mean log-probability of the query's tokens, in nats, without the document's end; part rank is BM25's. The first candidate
        of a query has the figures of the search by embeddings, where there is one. BadInput for that without tools."""
        logp, held = episode.logp[:-1] or episode.logp, json.loads(item.tests)
        parts = {"logp": math.fsum(logp) / len(logp), "right": float(item.kind == "right")}
        parts |= {name: float(held[name]) for name in ("rank", "relevant")}
        if self.embedder and tools is None:
            raise BadInput("embeddings need a model, and no tools are at hand; grade them through an evaluate step")
        if self.embedder and not held["rank"]:
            found = tools.search(item.target.strip(), DEEPEST + len(held["hidden"]), self.embedder)
            ranked = [name in held["gold"] for name, _ in found if name not in held["hidden"]]
            parts |= {f"embedded_{metric}": value for metric, value in figures(ranked, held["relevant"]).items()}
        return Grade(parts["logp"], {**parts, "nats": -math.fsum(episode.logp)})

    def summary(self, rows: Rows, rng: Rng) -> dict[str, float]:
        """Each figure of the model's ranking, and of BM25's and the embeddings' as other subjects, with intervals clustered by group."""
        found: dict[str, float] = {}
        for subject, by in (("", "logp"), ("@bm25", "")):
            columns, groups = measured(rows, by)
            for metric in METRICS:
                found |= mean(columns[metric], groups, rng).named(metric + subject)
        searched_for = [(item.group, grade.parts) for item, _, grade in rows if f"embedded_{METRICS[0]}" in grade.parts]
        for metric in METRICS if searched_for else ():
            values = [parts[f"embedded_{metric}"] for _, parts in searched_for]
            found |= mean(values, [group for group, _ in searched_for], rng).named(f"{metric}@embeddings")
        return found

    def compare(self, rows: Rows, others: Rows, rng: Rng) -> dict[str, float]:
        """Differences of the model's figures."""
        (mine, groups), (theirs, _) = measured(rows, "logp"), measured(others, "logp")
        found: dict[str, float] = {}
        for metric in METRICS:
            found |= paired(mine[metric], theirs[metric], [1.0] * len(groups), groups, rng).named(metric)
        return found


def figures(ranked: Sequence[bool], relevant: int) -> dict[str, float]:
    """Each metric of one ranking."""
    return dict(zip(METRICS, (ndcg(ranked, relevant), recall(ranked, relevant, 5), recall(ranked, relevant, DEEPEST)), strict=True))


def measured(rows: Rows, by: str) -> tuple[dict[str, list[float]], list[str]]:
    """The figures of every query, and its group: by a part of the grades, of equals by BM25's rank; by that alone without a part."""
    queries: dict[str, list[tuple[Item, Grade]]] = {}
    for item, _, grade in rows:
        queries.setdefault(item.id.rpartition("/")[0], []).append((item, grade))
    columns: dict[str, list[float]] = {metric: [] for metric in METRICS}
    for found in queries.values():
        order = sorted((grade for _, grade in found), key=lambda grade: (-grade.parts[by] if by else 0.0, grade.parts["rank"]))
        ranked, relevant = [grade.parts["right"] == 1 for grade in order], int(order[0].parts["relevant"])
        for metric, value in figures(ranked, relevant).items():
            columns[metric].append(value)
    return columns, [found[0][0].group for found in queries.values()]


def beginning(source: Source, text: str, query: str, tokens: int) -> str:
    """As many tokens of a text as fit with the query; BadInput for a context without room."""
    room = min(tokens, budget_of(source, 0, len(source.tokenizer.encode(FORM + query)) + 8))
    if room < 8:
        raise BadInput(f"retrieval: a context of {source.net.cfg.context} tokens has no room for a document and a query; take a longer one")
    ids = source.tokenizer.encode(text)
    return text if len(ids) <= room else source.tokenizer.decode(ids[:room])
