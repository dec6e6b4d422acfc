"""Two queries on one database, compared by their results."""

from __future__ import annotations

import sqlite3

import pytest

from bloomery.data.sql_probe import orders, schema_of, verdict

SCRIPT = """
CREATE TABLE town (id INTEGER PRIMARY KEY, name TEXT, land TEXT, people INTEGER);
CREATE INDEX by_people ON town (people);
CREATE TABLE lake (name TEXT PRIMARY KEY, town INTEGER, depth REAL) WITHOUT ROWID;
"""


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    connection = sqlite3.connect("data.sqlite")
    connection.executescript(SCRIPT)
    rows = [(i, f"t{i}", "ab"[i % 2], 10 * i) for i in range(1, 201)]
    connection.executemany("INSERT INTO town VALUES (?, ?, ?, ?)", rows)
    connection.execute("INSERT INTO lake VALUES ('deep', 3, 0.1), ('broken', 4, 0.2)")
    connection.execute("UPDATE lake SET name = CAST(x'ff41' AS TEXT) WHERE name = 'broken'")
    connection.commit()
    connection.close()
    return tmp_path


def found(gold: str, said: str, copies: int = 2, steps: int = 10**6, rows: int = 1000) -> dict:
    return verdict({"gold": gold, "said": said, "script": False, "copies": copies, "steps": steps, "rows": rows})


@pytest.mark.parametrize(
    ("gold", "said", "same"),
    [
        ("SELECT name FROM town WHERE people > 1900", "SELECT t.name FROM town AS t WHERE NOT t.people <= 1900", True),
        ("SELECT name FROM town WHERE people > 1900", "SELECT name FROM town WHERE people > 1900 ORDER BY name DESC", True),
        ("SELECT name FROM town ORDER BY people", "SELECT name FROM town ORDER BY people DESC", False),
        ("SELECT name FROM (SELECT * FROM town ORDER BY people) WHERE id < 5", "SELECT name FROM town WHERE id < 5 ORDER BY id DESC", True),
        ("SELECT land FROM town WHERE id < 5", "SELECT DISTINCT land FROM town WHERE id < 5", False),
        ("SELECT name, land FROM town WHERE id = 1", "SELECT land, name FROM town WHERE id = 1", False),
        ("SELECT count(*) FROM town", "SELECT '200'", False),
        ("SELECT sum(depth) FROM lake", "SELECT 0.3", True),
        ("SELECT name FROM lake", "SELECT name FROM lake", True),
        ("SELECT 1", "SELECT 1; SELECT 1", False), ("SELECT 1", "", False), ("SELECT 1", "I cannot answer that", False),
    ],
)  # fmt: skip
def test_results_decide_and_not_how_a_query_is_written(base, gold, said, same):
    assert found(gold, said)["same"] is same


def test_a_right_result_by_chance_falls_on_copies_with_fewer_rows(base):
    lucky = found("SELECT count(*) FROM town", "SELECT 200")
    assert lucky["same"] and not lucky["copies"]
    also = found("SELECT count(*) FROM town WHERE land = 'a'", "SELECT count(*) FROM town WHERE land <> 'b'")
    assert also["same"] and also["copies"]
    assert not found("SELECT max(people) FROM town", "SELECT people FROM town WHERE id = 200")["copies"]


def test_an_indexed_query_takes_fewer_steps_than_a_scan(base):
    gold = "SELECT name FROM town WHERE people = 500"
    scan, again = found(gold, "SELECT name FROM town WHERE people + 0 = 500"), found(gold, gold)
    assert scan["same"] and scan["wanted"] < scan["steps"] / 5 and again["wanted"] == again["steps"] == scan["wanted"]


@pytest.mark.parametrize(
    "said",
    [
        "DELETE FROM town", "DROP TABLE town", "INSERT INTO town VALUES (999, 'x', 'x', 1)", "PRAGMA writable_schema = 1",
        "ATTACH DATABASE 'other.sqlite' AS other", "VACUUM INTO 'copy.sqlite'", "SELECT load_extension('x')",
        "CREATE TEMP TABLE t AS SELECT 1", "SELECT readfile('/etc/passwd')",
    ],
)  # fmt: skip
def test_a_query_only_reads(base, said):
    before = (base / "data.sqlite").read_bytes()
    told = found("SELECT 1", said)
    assert told["same"] is False and told["why"]
    assert (base / "data.sqlite").read_bytes() == before and [one.name for one in base.iterdir()] == ["data.sqlite"]


def test_work_and_results_are_bounded(base):
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
    assert found("SELECT 1", endless)["why"] == "too many steps"
    assert found("SELECT 1", "SELECT a.id FROM town a, town b", steps=10**8)["why"] == "too many rows"
    assert "reference" in found("SELECT nothing", "SELECT 1")
    assert found("SELECT 1 WHERE 0", "SELECT 2 WHERE 0")["empty"]


@pytest.mark.parametrize(
    ("query", "ordered"),
    [
        ("SELECT a FROM t ORDER  BY a", True), ("select a from t order by a limit 3", True), ("SELECT 'order by' FROM t", False),
        ("SELECT a FROM (SELECT a FROM t ORDER BY a)", False), ("SELECT rank() OVER (ORDER BY a) FROM t", False),
        ('SELECT "order by" FROM t -- order by', False), ("SELECT border FROM t", False),
    ],
)  # fmt: skip
def test_only_an_order_of_the_whole_counts(query, ordered):
    assert orders(query) is ordered


def test_the_schema_is_what_made_the_tables(base):
    text = schema_of(str(base / "data.sqlite"))
    assert text.count("CREATE TABLE") == 2 and text.endswith(";") and "INDEX" not in text
