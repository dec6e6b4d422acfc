"""Scores as contests: who is compared with whom on what, which way is better, and the chart of it.

A row is one entry of scores.json: task, metric, value, low, high, subject, n, note, and where known unit,
better (lower or higher) and clean (the value over items that training text does not hold, with clean_low, clean_high and clean_n).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bloomery.draw import svg
from bloomery.draw.bars import Bar, bar_chart
from bloomery.draw.cards import real
from bloomery.draw.numbers import DASH, MINUS, THIN, count, number, percent, plain, seconds, si, signed, size
from bloomery.draw.page import markup

Row = Mapping[str, Any]
CHANGE = re.compile(r"_change(?:_from_(.+))?$")  # ends the name of a paired difference, and of what it is from where that is not `before`
RIVAL = re.compile(
    r"^before\b|gzip|zlib|\bxz\b|lzma|zstd|bzip2|brotli|n?-?gram|unigram|baseline|random|chance|always|reference|\breal\b", re.I
)
LOWER = re.compile(r"bits|bpb|loss|perplexity|error|seconds|latency|bytes$|size|disk|memory", re.I)
HIGHER = re.compile(r"per_second|per second|speed|accuracy|exact|parse|match|share|pass|next_line|rate$|f1|score", re.I)


@dataclass(frozen=True)
class Contest:
    """Rows that can be compared: one metric of one task. `better` is lower, higher or empty where unknown."""

    task: str
    metric: str
    rows: tuple[Row, ...]

    @property
    def better(self) -> str:
        said = {str(r.get("better") or "") for r in self.rows} - {""}
        return said.pop() if len(said) == 1 else "higher" if HIGHER.search(self.metric) else "lower" if LOWER.search(self.metric) else ""

    def ranked(self) -> list[Row]:
        """The best first; as written where better is unknown."""
        if not self.better:
            return list(self.rows)
        return sorted(self.rows, key=lambda r: r["value"] if self.better == "lower" else -r["value"])

    def best(self, main: bool) -> Row | None:
        """The best of the models (main) or of what they are compared with."""
        return next((r for r in self.ranked() if is_main(r) == main), None)

    def strongest(self, name: str) -> Row | None:
        """The best of the rivals whose subject names `name`, so that no comparison is with a straw man."""
        return next((r for r in self.ranked() if name in str(r["subject"]).lower() and not is_main(r)), None)

    def rivals(self) -> list[Row]:
        """The strongest of every kind of rival: one gzip, one xz, one n-gram."""
        found: dict[str, Row] = {}
        for row in self.ranked():
            if not is_main(row):
                found.setdefault(str(row["subject"]).split()[0].lower(), row)
        return list(found.values())


def is_main(row: Row) -> bool:
    """Whether a row is about the model, not about what it is compared with."""
    return not RIVAL.search(str(row.get("subject", "")))


def is_before(row: Row) -> bool:
    """Whether a row is about the model as it was before, or another one that was asked the same."""
    return str(row.get("subject", "")).startswith("before")


def contests(rows: Sequence[Row]) -> list[Contest]:
    """Rows with finite values, gathered by metric where its subjects differ, otherwise by task and metric."""
    good = [r for r in rows if isinstance(r.get("value"), (int, float)) and math.isfinite(r["value"])]
    by_metric: dict[str, list[Row]] = {}
    for row in good:
        by_metric.setdefault(str(row.get("metric", "")), []).append(row)
    found = []
    for metric, members in by_metric.items():
        subjects = [r.get("subject") for r in members]
        tasks = list(dict.fromkeys(str(r.get("task", "")) for r in members))
        if len(set(subjects)) == len(subjects):
            found.append(Contest(tasks[0] if len(tasks) == 1 else "", metric, tuple(members)))
        else:
            found += [Contest(t, metric, tuple(r for r in members if str(r.get("task", "")) == t)) for t in tasks]
    return found


def measure(row: Row, rows: Sequence[Row]) -> str:
    """A metric's name, after its task's where it does not tell whose it is: of a task of lm-eval, or of several tasks in `rows`."""
    metric, task = str(row.get("metric", "")), str(row.get("task") or "")
    alone = len({str(one.get("task") or "") for one in rows if one.get("metric") == metric}) == 1
    return metric if alone and not task.startswith("lm_eval.") else f"{task.removeprefix('lm_eval.')}: {metric}"


def headline_contest(found: Sequence[Contest]) -> Contest | None:
    """The contest in bits per byte with the most rivals and a model in it."""
    bits = [c for c in found if re.search(r"bits.?per.?byte|bpb", c.metric) and c.best(main=True)]
    return max(bits, key=lambda c: len(c.rows)) if bits else None


def results(rows: Sequence[Row]) -> dict[str, Any]:
    """Charts of every contest with at least two sides, and the whole table."""
    drawn = [one for one in contests(rows) if len(one.rows) > 1 and not all(is_main(r) for r in one.rows)]
    drawn = [one for one in drawn if not CHANGE.search(one.metric) and not all(is_main(r) or is_before(r) for r in one.rows)]
    widths = svg.FULL if len(drawn) == 1 else svg.HALF
    clean = any(r.get("clean") is not None for r in rows)
    return {"charts": [_chart(one, widths) for one in drawn], "rows": [_row(r) for r in rows], "clean": clean}


def _chart(one: Contest, widths: tuple[int, ...]) -> dict[str, Any]:
    unit, ranked = one.metric.replace("_", " "), one.ranked()
    bars = [Bar(str(r["subject"]), r["value"], r.get("low"), r.get("high"), is_main(r), shown(r, r["value"])) for r in ranked]
    label = f"{unit}: " + ", ".join(f"{b.name} {b.shown}" for b in bars)
    task = one.task.replace("_", " ")
    note = ", ".join(p for p in (task if task != unit else "", f"{one.better} is better" if one.better else "") if p)
    drawn = svg.fluid(lambda width: bar_chart(bars, label=label, unit=unit, width=width), *widths)
    return {"name": unit[:1].upper() + unit[1:], "note": note, "chart": markup(drawn)}


def _row(row: Row) -> dict[str, Any]:
    metric = str(row.get("metric", ""))
    words = shown_change if CHANGE.search(metric) else shown
    ends = [words(row, row.get(k)) for k in ("low", "high") if isinstance(row.get(k), (int, float))]
    n = row.get("n")
    return {
        "subject": str(row.get("subject", "")), "metric": metric.replace("_", " "),
        "task": "" if row.get("task") in (None, "", metric) else str(row["task"]).replace("_", " "),
        "value": words(row, row.get("value")), **_twin(row, words),
        "interval": f"{ends[0]} to {ends[1]}" if len(ends) == 2 else "",
        "n": count(n) if isinstance(n, (int, float)) else "", "note": str(row.get("note") or ""), "main": is_main(row),
    }  # fmt: skip


def _twin(row: Row, words: Callable[[Row, Any], str]) -> dict[str, str]:
    """The clean twin, its interval, and of how many items it is."""
    ends = [words(row, row[k]) for k in ("clean_low", "clean_high") if isinstance(row.get(k), (int, float))]
    n = row.get("clean_n")
    return {
        "clean": "" if row.get("clean") is None else words(row, row["clean"]),
        "clean_interval": f"{ends[0]} to {ends[1]}" if len(ends) == 2 else "", "clean_n": count(n) if isinstance(n, (int, float)) else "",
    }  # fmt: skip


def clean_words(row: Row) -> str:
    """The clean twin with its interval and number of items, where it is not the score itself."""
    if row.get("clean") is None or not row.get("contaminated"):
        return ""
    told = _twin(row, shown)
    interval = f" ({told['clean_interval']})" if told["clean_interval"] else ""
    return f"{told['clean']}{interval}, {told['clean_n']} items"


def shown(row: Row, value: Any) -> str:
    """A score in its unit, or in the one that its metric implies: bytes, seconds, per second, a share of one, else a number."""
    if value is None:
        return DASH
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return plain(value)
    metric, unit = str(row.get("metric", "")), str(row.get("unit") or "")
    if unit == "bytes" or re.search(r"(^|_)(bytes|size|disk)$|on_disk", metric):
        return size(value)
    if unit.endswith("/s") or re.search(r"per_second", metric):
        return si(value)
    if unit in ("s", "seconds") or re.search(r"(^|_)seconds$", metric):
        return seconds(value)
    if unit == "share" or (re.search(r"share|accuracy|exact|parse|match|pass|next_line", metric) and 0 <= value <= 1):
        return percent(value, 3)
    return number(value)


def shown_change(row: Row, value: Any) -> str:
    """A difference with its sign; of shares in percentage points."""
    if real(value) is None:
        return DASH
    if str(row.get("unit") or "") == "share":
        return f"{points(value)}{THIN}points"
    return signed(value)


def points(value: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * value:+.1f}".replace("-", MINUS)
