"""Local questions as rows."""

from __future__ import annotations

import pytest

from bloomery.core.errors import BadInput
from bloomery.data.questions import asked, fields_of, filled, group_of, read_questions
from bloomery.seams import Source


def test_files_are_rows_by_name(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"q": 1}\n\n{"q": "x\\u2028y"}\n')
    (tmp_path / "b.jsonl").write_text("")
    found = read_questions(tmp_path)
    assert found == {"a": [{"q": 1}, {"q": "x\u2028y"}], "b": []} and read_questions(tmp_path / "a.jsonl") == {"a": found["a"]}
    assert [key for key, _ in asked(Source(questions=found), "", ["q"], 0)] == ["a:0", "a:1"]
    assert [key for key, _ in asked(Source(questions={"a": [{"q": 1, "id": "x"}]}), "a", ["q"], 5)] == ["a:x"]


@pytest.mark.parametrize(("line", "said"), [("{", "2 is not JSON"), ("[1]", "2 is no JSON object")])
def test_what_is_no_row_is_named_with_its_line(tmp_path, line, said):
    (tmp_path / "a.jsonl").write_text('{"q": 1}\n' + line + "\n")
    with pytest.raises(BadInput, match=said):
        read_questions(tmp_path)


def test_lists_are_rows_too_and_other_json_is_passed_over(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"q": 1}\n')
    (tmp_path / "b.json").write_text('[{"q": 2}, {"q": 3}]')
    (tmp_path / "card.json").write_text('{"kind": "folder"}')
    assert read_questions(tmp_path) == {"a": [{"q": 1}], "b": [{"q": 2}, {"q": 3}]}
    for name, text, said in (("card", "{}", "holds no list"), ("c", '[{"q": 1}, 2]', "entry 2"), ("d", "[", "d.json:1 is not JSON")):
        (tmp_path / f"{name}.json").write_text(text)
        with pytest.raises(BadInput, match=said):
            read_questions(tmp_path / f"{name}.json")
    (tmp_path / "c.json").unlink(), (tmp_path / "d.json").unlink()
    (tmp_path / "b.jsonl").write_text('{"q": 1}\n')
    with pytest.raises(BadInput, match="give one of them another name"):
        read_questions(tmp_path)


def test_an_empty_folder_is_refused_and_rows_without_a_field_too(tmp_path):
    with pytest.raises(BadInput, match=r"holds no \.jsonl"):
        read_questions(tmp_path)
    with pytest.raises(BadInput, match=r"row 2 of a\.jsonl has no 'q'"):
        list(asked(Source(questions={"a": [{"q": 1}, {}]}), "", ["q"], 0))


def test_forms():
    assert fields_of("{a} {b c} {d}") == ["a", "d"]
    assert filled("{a}{b}{{x}}", {"a": "{b}", "x": 3}) == "{b}{b}{3}"


def test_a_mark_of_the_encoding_is_no_text_and_other_encodings_are_refused(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + b'{"q": 1}\n')
    assert read_questions(tmp_path) == {"a": [{"q": 1}]}
    (tmp_path / "b.json").write_bytes('[{"q": "é"}]'.encode("latin1"))
    with pytest.raises(BadInput, match=r"b\.json is not UTF-8 \(byte 8\)"):
        read_questions(tmp_path)


def test_what_is_null_is_neither_an_id_nor_a_group():
    rows = [{"q": 1, "task_id": None, "id": 7}, {"q": 2, "id": None, "group": None}, {"q": 3, "id": None, "group": 0}]
    found = dict(asked(Source(questions={"a": rows}), "", ["q"], 0))
    assert list(found) == ["a:7", "a:1", "a:2"]
    assert [group_of(row, key) for key, row in found.items()] == ["a:7", "a:1", "0"]
