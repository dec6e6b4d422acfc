"""Queries judged by their results, in the sandbox."""

from __future__ import annotations

import sqlite3

import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.task.text_to_sql import TextToSql, query_of
from bloomery.seams import Episode, Rng, Source
from bloomery.tools.sandbox import Sandbox

RNG = Rng((0, "sql"))
SCHEMA = "CREATE TABLE town (name TEXT, people INTEGER);"
DATA = "".join(f"INSERT INTO town VALUES ('t{i}', {i});" for i in range(20))
ROW = {
    "question": "Which towns have more\nthan 17 people?",
    "evidence": "people counts residents",
    "SQL": "SELECT name FROM town WHERE people > 17",
}
INLINE = {**ROW, "schema": SCHEMA, "data": DATA}


def asked(rows, folder=None, **knobs) -> list:
    return list(TextToSql(**knobs).items(Source(questions={"q": rows}, folder=folder), RNG))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "databases" / "towns").mkdir(parents=True)
    base = sqlite3.connect(tmp_path / "databases" / "towns" / "towns.sqlite")
    base.executescript(SCHEMA + DATA)
    base.close()
    return tmp_path


@pytest.mark.parametrize(
    ("text", "score", "copies"),
    [
        (" name FROM town WHERE people > 17", 1, 1), (" name FROM town WHERE people >= 18 ORDER BY name", 1, 1),
        ("\n```sql\nSELECT name FROM town WHERE NOT people < 18;\n```\nThat is it.", 1, 1),
        (" 't18' UNION ALL SELECT 't19'", 1, 0), (" name FROM town WHERE people > 16", 0, 0), (" count(*) FROM town", 0, 0),
        ("", 0, 0), (" The towns are t18 and t19.", 0, 0), (" I cannot help with that", 0, 0), (" name FROM village", 0, 0),
        ("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n", 0, 0),
    ],
)  # fmt: skip
def test_a_query_counts_by_its_result(text, score, copies):
    (item,) = asked([INLINE])
    grade = TextToSql(steps=100_000).grade(item, Episode("e", item.id, text), Sandbox())
    assert (grade.score, grade.parts["copies"]) == (score, copies) and 0 <= grade.parts["efficiency"] <= 1.5


def test_files_of_the_published_layout_are_read_and_their_references_are_right(folder):
    task = TextToSql()
    rows = [
        {**ROW, "db_id": "towns", "difficulty": "simple"},
        {**ROW, "db_id": "towns", "SQL": "WITH a AS (SELECT 1 AS x) SELECT x FROM a"},
    ]
    items = asked(rows, folder)
    assert items[0].prompt.startswith("CREATE TABLE town") and "than 17 people?\nSELECT" in items[0].prompt and items[0].group == "towns"
    assert "-- people counts residents\n" in items[0].prompt and items[0].target == " name FROM town WHERE people > 17"
    graded = [(item, None, task.grade(item, Episode("e", item.id, item.target), Sandbox())) for item in items]
    found = task.summary(graded, RNG)
    assert found["sql_executed"] == found["sql_executed_on_copies"] == found["sql_efficiency"] == 1.0


def test_what_cannot_be_asked_is_refused_with_its_row(folder):
    for row, said in (({**ROW, "db_id": "lakes"}, "lakes.sqlite"), ({**ROW, "db_id": "../towns"}, "no file"), (ROW, "no schema")):
        with pytest.raises(BadInput, match=said):
            asked([row], folder)
    (item,) = asked([{**INLINE, "SQL": "SELECT nothing FROM town"}])
    with pytest.raises(BadInput, match="reference query does not run"):
        TextToSql().grade(item, Episode("e", item.id, " 1"), Sandbox())
    with pytest.raises(BadInput, match="no tools"):
        TextToSql().grade(item, Episode("e", item.id, ""), None)
    with pytest.raises(ValueError, match="limit_s"):
        TextToSql(limit_s=0)


def test_the_query_of_a_reply():
    assert query_of(" a FROM t;") == "SELECT a FROM t" and query_of("Select a") == "Select a"
    assert query_of("Sure:\n```sqlite\nWITH x AS (SELECT 1) SELECT * FROM x\n```") == "WITH x AS (SELECT 1) SELECT * FROM x"
