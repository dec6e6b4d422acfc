"""Instructions that a program verifies."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.task.ifeval import Ifeval
from bloomery.seams import Episode, Rng, Source

RNG = Rng((0, "ifeval"))
ROWS = [
    {"key": 1, "prompt": "Quote all, without commas.",
     "instruction_id_list": ["punctuation:no_comma", "startend:quotation"], "kwargs": [{}, {"num_words": None}]},
    {"key": 2, "prompt": "Name two.",
     "instruction_id_list": ["detectable_format:number_bullet_lists"], "kwargs": [{"num_bullets": 2, "keyword": None}]},
]  # fmt: skip


def items(rows=ROWS, template=None, **knobs) -> list:
    return list(Ifeval(**knobs).items(Source(tokenizer=SimpleNamespace(template=template), questions={"q": list(rows)}), RNG))


def summed(replies: list[str]) -> dict[str, float]:
    task = Ifeval()
    return task.summary([(item, None, task.grade(item, Episode("e", "e", text), None)) for item, text in zip(items(), replies)], RNG)


@pytest.mark.parametrize(
    ("replies", "found"),
    [
        (['"a b"', "* a\n* b"], (1, 1, 1, 1)), (["a b", "* a\n* b"], (0.5, 2 / 3, 0.5, 2 / 3)),
        (['Sure, here:\n"a b"', "* a\n* b"], (0.5, 1 / 3, 1, 1)), (["", ""], (0, 0, 0, 0)),
        (["I cannot do that.", "I cannot do that."], (0, 1 / 3, 0, 1 / 3)), (['"a, b"\n"c"', "two: a and b"], (0, 1 / 3, 0.5, 2 / 3)),
    ],
)  # fmt: skip
def test_exact_strict_and_loose_by_prompt_and_by_instruction(replies, found):
    names = ("prompts_strict", "instructions_strict", "prompts_loose", "instructions_loose")
    told = summed(replies)
    assert [told[f"ifeval_{name}"] for name in names] == pytest.approx(found)
    assert told["ifeval_prompts_strict.n"] == 2


def test_asked_by_the_template_where_there_is_one():
    assert items()[0].messages == () and items()[0].prompt == "Quote all, without commas.\n\n"
    assert items(template=object())[1].messages == (("user", "Name two."),)
    assert items(template=object(), chat=False)[1].messages == () and len(items(count=1)) == 1


def test_two_models_are_compared_in_all_four():
    task = Ifeval()
    graded = [
        [(item, None, task.grade(item, Episode("e", "e", text), None)) for item, text in zip(items(), replies)]
        for replies in (['"a"', "* a\n* b"], ["a", "no"])
    ]
    found = task.compare(*graded, RNG)
    assert found["ifeval_prompts_strict"] == 1 and found["ifeval_instructions_strict"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"instruction_id_list": ["startend:nothing"], "kwargs": [{}]}, "none of its instructions"), ({"kwargs": [{}]}, "one length"),
        ({"instruction_id_list": ["startend:end_checker"], "kwargs": [{"end_phrase": None}]}, "lacks its end_phrase"),
        ({"instruction_id_list": [], "kwargs": []}, "one length"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_verified_are_refused(change, said):
    with pytest.raises(BadInput, match=f"q:0.*{said}"):
        items([{**ROWS[0], **change}])
    with pytest.raises(ValueError, match="limit"):
        Ifeval(limit=0)
