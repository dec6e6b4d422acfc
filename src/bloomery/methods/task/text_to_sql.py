"""Task `text_to_sql`: questions put to a database, judged by what the queries give."""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bloomery.core.errors import BadInput
from bloomery.data import sql_probe
from bloomery.data.calls import sandboxed
from bloomery.data.questions import Row, asked, group_of
from bloomery.num.statistics import mean, share
from bloomery.seams import Episode, Grade, Item, Rng, Source, Tools

LARGEST = 48 << 20  # bytes of a database; the sandbox holds it in memory
METRICS = {"sql_executed": "score", "sql_executed_on_copies": "copies", "sql_efficiency": "efficiency"}


@dataclass(frozen=True)
class TextToSql:
    """Share of questions whose query gives what the reference gives, run by sqlite within the sandbox.

    P317 Li et al. 2023, arXiv 2305.03111 (BIRD); the copies of a database are those of Zhong et al. 2020, arXiv 2010.02840.
    Differs: rows are compared as bags, in order where the reference orders, not as sets; a query must also agree on `copies` of the
        database that lack half of the rows, which a right result by chance does not, counted apart; efficiency is the square root of
        the reference's steps of sqlite's machine over the query's, not of seconds, and 0 for one that is not right on the copies too.
    Costs: one completion for each row, run once in the sandbox with the database, which may have 48 MB.
    """

    file: str = ""  # of the questions' folder, without its ending; empty: those whose rows have the fields
    answer: str = "SQL"  # the field with the reference query: SQL in BIRD, query in Spider
    count: int = 0  # rows at most; 0: all
    copies: int = 2  # of the database with half of its rows, on which the queries must agree too
    limit: int = 256  # tokens of a query at most
    limit_s: float = 10.0  # seconds that both queries have on all copies
    steps: int = 20_000_000  # of sqlite's machine that a query may take
    rows: int = 100_000  # of a result at most
    subject = "model"
    needs = ("run",)
    metrics = {
        "sql_executed": ("share", "higher"),
        "sql_executed_on_copies": ("share", "higher"),
        "sql_efficiency": ("ratio", "higher"),
    }  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if min(self.count, self.copies) < 0 or min(self.limit, self.steps, self.rows) < 1 or not self.limit_s > 0:
            raise ValueError("count and copies must be at least 0, limit, steps and rows at least 1 and limit_s above 0")

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """One item for each row; its database is DB_ID.sqlite anywhere in the questions' folder, or the row's own `schema` and `data`."""
        for key, row in asked(source, self.file, ("question", self.answer), self.count):
            schema, tests = database(key, row, source.folder)
            evidence = f"-- {one}\n" if (one := " ".join(str(row.get("evidence") or "").split())) else ""
            prompt = f"{schema}\n\n-- Answer by one query for sqlite.\n{evidence}-- {' '.join(str(row['question']).split())}\nSELECT"
            target = re.sub(r"^\s*select\b", "", str(row[self.answer]).strip().rstrip(";"), flags=re.IGNORECASE)
            about = {"group": group_of(row, str(row.get("db_id", key))), "kind": str(row.get("difficulty", "")), "tests": tests}
            yield Item(key, prompt, "generate", target, self.limit, (";", "\n\n", "\n--"), **about)

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score 1 where the results are the same, else 0; part `copies` on the copies too, `efficiency`, and `empty` where the reference
        gives no rows, so that an empty result says little, `late` where seconds
        ran out. BadInput without tools, and for a reference that does not run."""
        held = json.loads(item.tests)
        gold = item.target if re.match(r"\s*with\b", item.target, re.IGNORECASE) else f"SELECT {item.target}"
        order = {"gold": gold, "said": query_of(episode.text), "script": bool(held["script"]), "copies": self.copies}
        files = {"order.json": json.dumps({**order, "steps": self.steps, "rows": self.rows}).encode()}
        files |= {"script.sql": held["script"].encode()} if held["script"] else {"data.sqlite": Path(held["file"]).read_bytes()}
        ran = sandboxed(tools, "queries").run(inspect.getsource(sql_probe), files, self.limit_s)
        try:
            found = json.loads(ran.stdout)
        except json.JSONDecodeError:
            found = {"same": False}
        if "reference" in found:
            raise BadInput(f"questions: {item.id}: its reference query does not run ({found['reference']}); mend the row or leave it out")
        score, copies = float(found["same"]), float(found["same"] and found["copies"])
        efficiency = math.sqrt(found["wanted"] / found["steps"]) if copies else 0.0
        parts = {"copies": copies, "efficiency": efficiency, "empty": float(found.get("empty", False))}
        return Grade(score, {**parts, "late": float(ran.reason == "time")})

    def summary(self, rows: Sequence[tuple[Item, Episode, Grade]], rng: Rng) -> dict[str, float]:
        """The share with the same result, on the copies too, and the mean efficiency, with intervals clustered by database."""
        groups, found = [item.group for item, _, _ in rows], {}
        for metric, part in METRICS.items():
            values = [grade.score if part == "score" else grade.parts[part] for _, _, grade in rows]
            found |= (mean if part == "efficiency" else share)(values, groups, rng).named(metric)
        return found


def query_of(text: str) -> str:
    """The query of a reply: what is fenced, else all of it; it goes on after SELECT unless it begins with that or with WITH."""
    fenced = re.search(r"```(?:sqlite|sql)?\s*\n?(.*?)(?:```|$)", text, re.DOTALL | re.IGNORECASE)
    bare = (fenced[1] if fenced else text).strip().rstrip(";").strip()
    return bare if re.match(r"(?:select|with)\b", bare, re.IGNORECASE) else f"SELECT {bare}"


def database(key: str, row: Row, folder: Path | None) -> tuple[str, str]:
    """What the model is shown of a database, and where a grade finds it, as JSON. BadInput for a row whose database is not there."""
    if "schema" in row:
        return str(row["schema"]).strip(), json.dumps({"script": f"{row['schema']}\n{row.get('data', '')}\n"})
    name = str(row.get("db_id", ""))
    found = sorted(folder.rglob(f"{name}.sqlite")) if folder is not None and re.fullmatch(r"[\w.-]+", name) else []
    if not found:
        raise BadInput(f"questions: {key}: there is no file {name or 'DB_ID'}.sqlite in the questions' folder, and the row has no schema")
    if found[0].stat().st_size > LARGEST:
        raise BadInput(f"questions: {key}: {found[0]} has more than {LARGEST >> 20} MB, which the sandbox cannot hold; leave the row out")
    return sql_probe.schema_of(str(found[0])), json.dumps({"script": "", "file": str(found[0].resolve())})
