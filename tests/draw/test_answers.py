"""Samples side by side: clipping, first differences, grades."""

from __future__ import annotations

from bloomery.draw.answers import LEAD, SHOWN, grade_text, samples, squeezed


def three(before: str, after: str, reference: str | None = "", prompt: str = "Write it.") -> dict:
    row = {
        "prompt": prompt,
        "completion": after,
        "reference": reference,
        "grade": 1.0,
        "kind": "k_1",
        "before": {"completion": before, "asked": "in plain text"},
    }
    return samples([row])[0]


def test_without_before_there_are_two():
    found = samples([{"prompt": "a\n\nb\n", "completion": "c"}])[0]
    assert not found["three"] and found["head"] == "b" and found["reference"] is None


def test_columns_begin_near_the_first_difference():
    same = [f"line {i}" for i in range(30)]
    found = three("\n".join([*same, "x"]), "\n".join([*same, "y"]), "\n".join([*same, "z"]))
    assert [c["name"] for c in found["columns"]] == ["Before", "After", "Reference"]
    for column, end in zip(found["columns"], "xyz", strict=True):
        assert column["above"] == 30 - LEAD and [line["text"] for line in column["lines"]] == [*same[-LEAD:], end]
    assert [line["same"] for line in found["columns"][0]["lines"]] == [True] * LEAD + [False]
    assert not any(line["same"] for line in found["columns"][2]["lines"])


def test_an_early_difference_is_shown_from_the_start():
    found = three("a\nb", "a\nc", "a\nd")
    assert all(column["above"] == 0 for column in found["columns"])


def test_long_answers_and_questions_are_clipped():
    found = three("", "\n".join(map(str, range(100))) + "\n" + "w" * 5000, "r", prompt="\n".join(f"q{i}" for i in range(60)))
    before, after, _ = found["columns"]
    assert before["empty"] and len(after["lines"]) == SHOWN and after["below"] == 101 - SHOWN
    assert found["prompt"].startswith("q0\n") and found["prompt"].endswith("q59") and "[42 lines left out]" in found["prompt"]
    assert len(three("", "w" * 5000)["columns"][1]["lines"][0]["text"]) == 601


def test_no_reference_two_columns():
    found = three("a", "b", None)
    assert [c["name"] for c in found["columns"]] == ["Before", "After"] and found["columns"][0]["grade"] == "asked in plain text"


def test_grades():
    assert grade_text({"next_line": 1, "parts": [1]}) == "next line 1" and grade_text(0.5) == "grade 0.5" and grade_text(None) == ""


def test_runs_of_empty_lines_are_counted():
    assert squeezed("a\n\n\n\nb\n\n \n\t\n\n") == "a\n\n\n\nb\n[4 empty lines]" and squeezed("\n" * 30) == "[30 empty lines]"
    assert three("\n" * 30, "x")["columns"][0]["lines"][0]["text"] == "[30 empty lines]"
