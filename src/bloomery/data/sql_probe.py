"""Runs two queries on one database and tells whether they give the same: alone, within the sandbox, on the standard library.

`order.json` beside it holds the queries and limits; `data.sqlite` is the database, or `script.sql` builds it. Only reading is allowed:
no attaching, no pragmas, no extensions. Work is counted in steps of sqlite's machine, so
that the verdict does not depend on how busy this machine is. Rows are compared as a list where the reference orders them, else as a bag;
floats to nine digits.
"""

import json
import re
import sqlite3
from collections import Counter
from pathlib import Path

EVERY = 10  # steps of sqlite's machine between two counts
READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}


class Refused(Exception):
    """Why a query has no result."""


def schema_of(path):
    """The statements that made a database file's tables, as a text."""
    base = sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        found = base.execute(
            "SELECT sql FROM sqlite_master WHERE type = 'table' AND sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        )
        return "\n".join(f"{one.strip()};" for (one,) in found)
    finally:
        base.close()


def opened(order):
    """The database, to be read."""
    base = sqlite3.connect("file:data.sqlite?mode=ro&immutable=1", uri=True) if not order["script"] else sqlite3.connect(":memory:")
    base.text_factory = decoded
    if not order["script"]:
        return base
    with open("script.sql", encoding="utf-8") as file:
        base.executescript(file.read())
    return base


def thinned(base, seed):
    """A copy in memory without about half of each table's rows, chosen by their numbers."""
    copy = sqlite3.connect(":memory:")
    copy.text_factory = decoded
    base.backup(copy)
    tables = copy.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")
    for (name,) in tables.fetchall():
        quoted = '"' + name.replace('"', '""') + '"'
        try:
            copy.execute(f"DELETE FROM {quoted} WHERE (rowid * 7919 + {seed} * 104729) % 101 < 50")
        except sqlite3.Error:
            continue  # a table without row numbers stays whole
    copy.commit()
    return copy


def result(base, query, most_steps, most_rows):
    """The rows of a query, and the steps that it took."""
    count = [0]

    def stepped():
        count[0] += EVERY
        return count[0] > most_steps

    base.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in READING else sqlite3.SQLITE_DENY)
    base.set_progress_handler(stepped, EVERY)
    try:
        cursor = base.execute(query)
        if cursor.description is None:
            raise Refused("no query")
        rows = cursor.fetchmany(most_rows + 1)
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError) as error:
        raise Refused("too many steps" if count[0] > most_steps else f"{type(error).__name__}: {error}") from None
    finally:
        base.set_authorizer(None)
        base.set_progress_handler(None, 0)
    if len(rows) > most_rows:
        raise Refused("too many rows")
    return [tuple(map(rounded, row)) for row in rows], count[0] + EVERY


def decoded(text):
    """Text of a database, whose bytes may be broken."""
    return text.decode("utf-8", "replace")


def rounded(value):
    return float(f"{value:.9g}") if isinstance(value, float) else value


def orders(query):
    """Whether a query orders its rows, outside brackets and quotes."""
    bare = re.sub(r"'(?:[^']|'')*'|\"[^\"]*\"|`[^`]*`|--[^\n]*", " ", query)
    while (less := re.sub(r"\([^()]*\)", " ", bare)) != bare:
        bare = less
    return re.search(r"\border\s+by\b", bare, re.IGNORECASE) is not None


def same(said, gold, ordered):
    return said == gold if ordered else Counter(said) == Counter(gold)


def verdict(order):
    """What is told: whether the results are the same, on the database and on each copy of it, and the steps of both queries."""
    limits, base = (order["steps"], order["rows"]), opened(order)
    base.execute("SELECT count(*) FROM sqlite_master").fetchall()  # reads the schema, which is no query's work
    try:
        gold, wanted = result(base, order["gold"], *limits)
    except Refused as why:
        return {"reference": str(why)}
    try:
        said, steps = result(base, order["said"], *limits)
    except Refused as why:
        return {"same": False, "why": str(why), "empty": not gold}
    ordered = orders(order["gold"])
    found = {"same": same(said, gold, ordered), "empty": not gold, "wanted": wanted, "steps": steps, "copies": True}
    for seed in range(order["copies"] if found["same"] else 0):
        copy = thinned(base, seed)
        try:
            pair = [result(copy, order[name], *limits)[0] for name in ("said", "gold")]
            found["copies"] = found["copies"] and same(*pair, ordered)
        except Refused:
            found["copies"] = False
    return found


if __name__ == "__main__":
    with open("order.json", encoding="utf-8") as given:
        print(json.dumps(verdict(json.load(given))))
