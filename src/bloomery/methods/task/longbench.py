"""Task `longbench`: questions about long texts, of six sorts, in the form of LongBench."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.core.errors import BadInput
from bloomery.data.haystack import budget_of, without_middle
from bloomery.data.likeness import likeness
from bloomery.data.questions import Row, asked, filled, group_of
from bloomery.num.statistics import mean, paired, ratio
from bloomery.seams import Episode, Grade, Item, Rng, Source, Tools

Rows = Sequence[tuple[Item, Episode, Grade]]
KINDS = {  # sort of question: how it is measured, tokens of a reply, form
    "question": ("f1", 128, "{context}\n\nAnswer from the text above, in a few words.\nQuestion: {input}\nAnswer:"),
    "summary": ("rouge", 512, "{context}\n\nSummarise the text above. {input}\nSummary:"),
    "class": ("class", 64, "{context}\n{input}"),
    "example": ("f1", 32, "{context}\n{input}"),
    "dialogue": ("rouge", 128, "{context}\n{input}"),
    "retrieval": ("number", 32, "{context}\n\nWhich paragraph is this an abstract of? {input}\nParagraph"),
    "count": ("number", 32, "{context}\n\nHow many different paragraphs are there above? {input}\nNumber:"),
    "code": ("code", 64, "{context}{input}"),
}
DATASETS = {
    "question": "narrativeqa qasper multifieldqa_en multifieldqa_zh hotpotqa 2wikimqa musique",
    "summary": "gov_report qmsum multi_news vcsum dureader", "class": "trec lsht", "example": "triviaqa", "dialogue": "samsum",
    "retrieval": "passage_retrieval_en passage_retrieval_zh", "count": "passage_count", "code": "lcc repobench-p",
}  # fmt: skip
KIND_OF = {name: kind for kind, names in DATASETS.items() for name in names.split()}
FIRST_LINE = ("class", "example", "dialogue")  # further lines would be further questions
LENGTHS = {"longbench_0_4k": (0, 4000), "longbench_4_8k": (4000, 8000), "longbench_8k": (8000, 1 << 60)}  # words


@dataclass(frozen=True)
class Longbench:
    """Mean score over sets of questions about long texts: answers, summaries, classes, retrieval, counts and code.

    P353 Bai et al. 2024, arXiv 2308.14508
    Differs: rows of the published form are read from local files (input, context, answers, dataset, all_classes, length); prompts are
        bloomery's own, shorter ones; the measures are those of `data.likeness`, which says where they depart from the published ones.
    Costs: one reading of the text, and a completion, for each row.
    """

    file: str = ""  # of the questions' folder, without its ending; empty: those whose rows have the fields
    count: int = 0  # rows at most; 0: all
    tokens: int = 0  # of question and text together, the middle cut out beyond it; 0: as many as the context holds
    subject = "model"
    metrics = {
        "longbench_score": ("score", "higher"),
        "longbench_0_4k": ("score", "higher"),
        "longbench_4_8k": ("score", "higher"),
        "longbench_8k": ("score", "higher"),
        "longbench_cut": ("share", "lower"),
    }  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if min(self.count, self.tokens) < 0:
            raise ValueError("count and tokens must be at least 0")

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """One item for each row, the kind is its dataset. BadInput for a dataset that LongBench does not have, and a context of no room."""
        for key, row in asked(source, self.file, ("input", "context", "answers", "dataset"), self.count):
            name, answers = dataset_of(key, row), [str(one) for one in row["answers"]]
            measure, limit, form = KINDS[KIND_OF[name]]
            room = budget_of(source, self.tokens, limit)
            if room < 16:
                raise BadInput(f"longbench: a context of {source.net.cfg.context} tokens has no room for a question and {limit} of a reply")
            whole = filled(form, row)
            prompt = without_middle(source.tokenizer, whole, room)
            held = {"measure": measure, "answers": answers, "classes": row.get("all_classes") or [], "cut": prompt != whole}
            about = {"group": group_of(row, key), "kind": name, "tests": json.dumps({**held, "length": row.get("length") or 0})}
            yield Item(key, prompt, "generate", answers[0], limit, **about)

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score = the best likeness to an answer; part `cut` is 1 where the middle of the text was left out."""
        held, text = json.loads(item.tests), episode.text
        kind = KIND_OF[item.kind]
        if kind in FIRST_LINE:
            text = text.lstrip("\n").split("\n")[0]
        score = likeness(held["measure"], text if kind == "code" else text.strip(), held["answers"], held["classes"])
        return Grade(score, {"cut": float(held["cut"]), "length": float(held["length"])})

    def summary(self, rows: Rows, rng: Rng) -> dict[str, float]:
        """The mean of the datasets' means, also over texts of up to 4000 words, up to 8000 and more; the share of texts that were cut."""
        found = ratio(*weighed(rows), [item.group for item, _, _ in rows], rng).named("longbench_score")
        for metric, (least, most) in LENGTHS.items():
            some = [row for row in rows if least <= row[2].parts["length"] < most]
            found |= ratio(*weighed(some), [item.group for item, _, _ in some], rng).named(metric) if some else {}
        return found | mean([grade.parts["cut"] for _, _, grade in rows], [item.group for item, _, _ in rows], rng).named("longbench_cut")

    def compare(self, rows: Rows, others: Rows, rng: Rng) -> dict[str, float]:
        """The difference of the mean score."""
        (mine, weights), (theirs, _) = weighed(rows), weighed(others)
        return paired(mine, theirs, weights, [item.group for item, _, _ in rows], rng).named("longbench_score")


def weighed(rows: Rows) -> tuple[list[float], list[float]]:
    """Scores over the number of questions of their dataset, and that share alone: each dataset counts as much as another."""
    sizes = Counter(item.kind for item, _, _ in rows)
    shares = [1 / sizes[item.kind] for item, _, _ in rows]
    return [share * grade.score for share, (_, _, grade) in zip(shares, rows, strict=True)], shares


def dataset_of(key: str, row: Row) -> str:
    """The dataset of a row, without the _e of LongBench-E. BadInput for one that LongBench does not have, and for a row without answers."""
    name = str(row["dataset"]).removesuffix("_e")
    if name not in KIND_OF:
        raise BadInput(f"questions: {key}: the dataset {name!r} is none of LongBench; they are {', '.join(sorted(KIND_OF))}")
    if not row["answers"] or (KIND_OF[name] == "class" and not row.get("all_classes")):
        raise BadInput(f"questions: {key}: answers, or all_classes of a classification, are empty; mend the row")
    return name
