"""Long texts in the form of LongBench."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("rouge_score")

from bloomery.core.errors import BadInput
from bloomery.methods.task.longbench import KIND_OF, Longbench
from bloomery.seams import Episode, Rng, Source

RNG = Rng((0, "longbench"))


class Letters:
    """A token for each character."""

    def encode(self, text: str) -> list[str]:
        return list(text)

    def decode(self, ids) -> str:
        return "".join(ids)


def row(dataset: str, answers: list[str], **about) -> dict:
    return {"input": "What?", "context": "c" * 900, "answers": answers, "dataset": dataset, "length": 100, "all_classes": None, **about}


ROWS = [
    row("hotpotqa_e", ["the red house", "a barn"]), row("gov_report", ["one two three four"], length=9000),
    row("trec", ["city"], all_classes=["city", "state"], length=5000), row("passage_retrieval_en", ["Paragraph 12"]),
    row("passage_count", ["7"]), row("lcc", ["    return x"]), row("triviaqa", ["Bach"]), row("samsum", ["They meet at noon"]),
]  # fmt: skip


def items(context: int = 4000, rows=ROWS, **knobs) -> list:
    source = Source(SimpleNamespace(cfg=SimpleNamespace(context=context)), Letters(), questions={"q": list(rows)})
    return list(Longbench(**knobs).items(source, RNG))


def scores(replies: list[str], **knobs) -> list[float]:
    return [Longbench().grade(item, Episode("e", "e", text), None).score for item, text in zip(items(**knobs), replies, strict=True)]


def test_references_get_1_and_empty_replies_and_refusals_0():
    assert scores([one["answers"][0] for one in ROWS]) == pytest.approx([1] * len(ROWS))
    assert scores([""] * len(ROWS)) == [0] * len(ROWS)
    refused = scores(["I am sorry, but I cannot help with that."] * len(ROWS))
    assert [found for found, item in zip(refused, items(), strict=True) if KIND_OF[item.kind] != "code"] == [0] * (len(ROWS) - 1)
    assert refused[5] < 0.5, "likeness of code is never quite 0"


def test_several_answers_share_the_score_and_further_lines_of_examples_do_not_count():
    found = scores(
        ["a barn", "two three", "city or state", "12, 13 or 14", "7 8", "# c\n    return y", "\nBach\nQuestion: x", "noon\nBob: hi"]
    )
    assert found == pytest.approx([1, 2 / 3, 0.5, 1 / 3, 0.5, 0.92, 1, 0.4])


def test_the_middle_is_cut_where_the_context_is_too_short():
    whole, short = items(4000)[0], items(400, ROWS[:1])[0]
    assert "c" * 900 in whole.prompt and len(short.prompt) + short.limit < 400 and short.prompt.endswith("Question: What?\nAnswer:")
    assert short.prompt.startswith("ccc") and Longbench().grade(short, Episode("e", "e", ""), None).parts["cut"] == 1
    assert len(items(4000, ROWS[:1], tokens=500)[0].prompt) < 500 - 128
    with pytest.raises(BadInput, match="no room"):
        items(100, ROWS[:1])


def test_exact_datasets_count_equally_and_lengths_are_told_apart():
    rows = [row("trec", ["a"], all_classes=["a", "b"], length=n) for n in (10, 5000, 9000)] + [row("passage_count", ["7"], length=10)]
    task = Longbench()
    graded = [
        (item, None, task.grade(item, Episode("e", "e", text), None))
        for item, text in zip(items(rows=rows), ["a", "a", "b", "7"], strict=True)
    ]
    found = task.summary(graded, RNG)
    assert found["longbench_score"] == pytest.approx((2 / 3 + 1) / 2) and found["longbench_score.n"] == 4
    assert (found["longbench_0_4k"], found["longbench_4_8k"], found["longbench_8k"]) == (1, 1, 0) and found["longbench_cut"] == 0
    assert task.compare(graded, graded, RNG)["longbench_score"] == 0


@pytest.mark.parametrize(
    ("bad", "said"), [(row("squad", ["a"]), "none of LongBench"), (row("trec", ["a"]), "all_classes"), (row("lcc", []), "answers")]
)
def test_rows_that_cannot_be_measured_are_refused(bad, said):
    with pytest.raises(BadInput, match=said):
        items(rows=[bad])
    with pytest.raises(ValueError, match="count"):
        Longbench(count=-1)


def test_all_twenty_one_datasets_are_known():
    assert len(KIND_OF) == 21
