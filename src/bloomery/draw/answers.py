"""Samples side by side: what was asked, what was written before and after, what was wanted.

A row of samples.jsonl: task, id, kind, prompt, completion, reference, grade, and before {completion, grade, asked} where it was asked too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import groupby
from typing import Any

from bloomery.draw.numbers import plain

PROMPT = 18  # lines of a prompt shown
SHOWN = 24  # lines of an answer shown
EMPTY = 3  # empty lines in a row shown as they are
LEAD = 3  # equal lines shown before the first that differs
WIDE = 600  # characters of a line shown


def samples(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every row as the page shows it; `three` says whether there is a before."""
    return [_three(row) if isinstance(row.get("before"), Mapping) else _two(row) for row in rows]


def grade_text(grade: Any) -> str:
    """A grade, a number or a mapping of them, in words."""
    if isinstance(grade, Mapping):
        return ", ".join(f"{str(k).replace('_', ' ')} {plain(v)}" for k, v in grade.items() if isinstance(v, (int, float, str)))
    return "" if grade is None else f"grade {plain(grade)}"


def squeezed(text: str) -> str:
    """The text with every long run of empty lines as one line that counts them."""
    found: list[str] = []
    for empty, run in groupby(text.splitlines(), key=lambda line: not line.strip()):
        lines = list(run)
        found += [f"[{len(lines)} empty lines]"] if empty and len(lines) > EMPTY else lines
    return "\n".join(found)


def _head(line: str) -> str:
    return line if len(line) <= 90 else line[:89] + "…"


def _two(row: Mapping[str, Any], lines: int = PROMPT) -> dict[str, Any]:
    """A completion after the last lines of its prompt, beside what really followed."""
    prompt, cut = str(row.get("prompt", "")), ""
    parts = prompt.splitlines(keepends=True)
    if len(parts) > lines:
        prompt, cut = "".join(parts[-lines:]), f"[{len(parts) - lines} lines before]\n"
    head = next((p.strip() for p in reversed(parts) if p.strip()), "(empty prompt)")
    reference = row.get("reference")
    about = (str(row.get("kind") or row.get("task") or "").replace("_", " "), grade_text(row.get("grade")))
    return {
        "three": False, "head": _head(head), "about": ", ".join(p for p in about if p), "prompt": cut + prompt,
        "completion": squeezed(str(row.get("completion", ""))), "reference": None if reference is None else str(reference),
    }  # fmt: skip


def _three(row: Mapping[str, Any]) -> dict[str, Any]:
    """Before, after and reference as columns that begin near the first line in which they differ."""
    parts = str(row.get("prompt", "")).splitlines()
    head = next((p.strip() for p in parts if p.strip()), "(empty prompt)")
    before, reference = row["before"], row.get("reference")
    texts = {"Before": str(before.get("completion", "")), "After": str(row.get("completion", ""))}
    how = f"asked {before['asked']}" if before.get("asked") and before["asked"] != "alike" else ""
    grades = {"Before": ", ".join(p for p in (how, grade_text(before.get("grade"))) if p), "After": grade_text(row.get("grade"))}
    if reference is not None:
        texts["Reference"] = str(reference)
    lines = {name: squeezed(text).splitlines() for name, text in texts.items()}
    start = _start(list(lines.values()))
    wanted = lines.get("Reference", [])
    columns = [
        {"name": name, "grade": grades.get(name, ""), "tone": name.lower(), **_clipped(mine, start, [] if name == "Reference" else wanted)}
        for name, mine in lines.items()
    ]
    return {
        "three": True, "head": _head(head), "about": str(row.get("kind") or row.get("task") or "").replace("_", " "),
        "prompt": _middle_out(parts), "columns": columns,
    }  # fmt: skip


def _middle_out(parts: Sequence[str]) -> str:
    """A long question without its middle."""
    if len(parts) <= PROMPT:
        return "\n".join(parts)
    first, final = PROMPT // 3, PROMPT - PROMPT // 3
    return "\n".join([*parts[:first], f"[{len(parts) - first - final} lines left out]", *parts[-final:]])


def _start(texts: Sequence[Sequence[str]]) -> int:
    """The line to begin with: a few before the first that is not the same in all, 0 where that is soon."""
    same = 0
    while all(same < len(t) for t in texts) and len({t[same] for t in texts}) == 1:
        same += 1
    return max(0, same - LEAD) if same > LEAD + 3 else 0


def _clipped(mine: Sequence[str], start: int, wanted: Sequence[str]) -> dict[str, Any]:
    """The lines shown, each with whether it stands in the reference too, and what is left out before and after."""
    known: set[int] = set()
    if wanted:
        for block in SequenceMatcher(None, mine, wanted, autojunk=False).get_matching_blocks():
            known.update(i for i in range(block.a, block.a + block.size) if mine[i].strip())
    shown = [
        {"text": line if len(line) <= WIDE else line[:WIDE] + "…", "same": i in known}
        for i, line in enumerate(mine[: start + SHOWN])
        if i >= start
    ]
    return {
        "lines": shown,
        "above": min(start, len(mine)),
        "below": max(0, len(mine) - start - SHOWN),
        "empty": not any(s.strip() for s in mine),
    }
