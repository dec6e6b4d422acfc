"""`bloomery decontaminate` from the command line: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bloomery.cli.main import guarded

QUESTION = "Which of the two rivers in the north of the old country carries more water in the spring?"
ANSWER = "The eastern one, because the snow of the high mountains melts there all at once."


@pytest.fixture
def given(tmp_path: Path) -> tuple[Path, Path]:
    corpus, exam = tmp_path / "corpus.jsonl", tmp_path / "exam.jsonl"
    texts = [f"Some words before. {QUESTION.upper()} And some after.", "A text of its own that nobody asked about at all.", ANSWER]
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    exam.write_text(json.dumps({"id": "rivers", "question": QUESTION, "answer": ANSWER}) + "\n")
    return corpus, exam


def test_matches_stand_side_by_side_and_the_sums_below(given, capsys, tmp_path):
    corpus, exam = given
    page = tmp_path / "leaks.html"
    assert guarded(["decontaminate", str(corpus), "--against", str(exam), "--html", str(page), "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "exam.jsonl: rivers" in out and "RIVERS" in out and "rivers in the north" in out and "2 of 3 documents" in out
    assert "[Some words before.]" in out, "what the item lacks stands in brackets"
    html = page.read_text()
    assert "Which of the two rivers" in html and "WHICH OF THE TWO" in html and str(page) in out


def test_json_has_a_line_for_each_match_and_the_summary_last(given, capsys, tmp_path):
    corpus, exam = given
    clean = tmp_path / "clean"
    assert guarded(["decontaminate", str(corpus), "--against", str(exam), "--write", str(clean), "--json", "--strict", "--quiet"]) == 0
    *matches, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {(one["item"], one["part"], one["share"]) for one in matches} == {("rivers", "question", 1.0), ("rivers", "answer", 1.0)}
    assert last["summary"]["leaking"] == 2 and last["summary"]["written"] == str(clean)
    assert guarded(["decontaminate", str(clean / "documents.parquet"), "--against", str(exam), "--strict", "--quiet"]) == 0


def test_exit_codes(given, capsys, tmp_path):
    corpus, exam = map(str, given)
    assert guarded(["decontaminate", corpus, "--against", exam, "--quiet", "--strict"]) == 1
    assert "2 of 3 documents hold an evaluation item" in capsys.readouterr().err
    for wrong, said in (
        ([corpus], "--against: name a recipe"),
        ([str(tmp_path / "no.jsonl"), "--against", exam], "does not exist"),
        ([corpus, "--against", "nothing"], "is no file, folder or task"),
        ([corpus, "--against", exam, "--share", "0"], "share above 0"),
        ([corpus, "--against", exam, "--text", "body"], "has no column 'body'"),
        ([corpus, "--against", exam, "--write", str(tmp_path)], "is there already"),
        ([corpus, "--against", exam, "--html", str(tmp_path / "no" / "page.html")], "there is no folder"),
        (["@corpus", "--against", exam, "--store", str(tmp_path / "nowhere")], "there is no store here"),
    ):
        assert guarded(["decontaminate", *wrong, "--quiet"]) == 2
        assert said in capsys.readouterr().err
