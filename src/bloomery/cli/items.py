"""The items of an evaluation: what was asked, what came back, what was wanted, and the grade."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.cli.tables import show_json, show_table
from bloomery.core.errors import BadInput, near

if TYPE_CHECKING:
    from bloomery.core.store import Artifact

HEAD = 48  # characters of a text in the list


def show_items(scores: Artifact, task: str | None, item: str | None, as_json: bool) -> None:
    """The list of a task's items, or one of them whole. BadInput for an artifact, a task or an id that is not there."""
    rows = rows_of(scores, task)
    if item is not None and not (rows := [row for row in rows if row["id"] == item]):
        raise BadInput(f"--item: the task {task} has no item {item!r}; `--items {task}` lists them")
    if as_json:
        show_json(rows)
    elif item is not None:
        print(whole(rows[0]))
    else:
        ordered = sorted(rows, key=lambda row: (grade_of(row) is None, grade_of(row)))
        listed = [(row["id"], text_of(grade_of(row)), head(asked(row)), head(replied(row))) for row in ordered]
        show_table(("item", "grade", "asked", "replied"), listed, right=("grade",))


def rows_of(scores: Artifact, task: str | None) -> list[dict[str, Any]]:
    """The lines of a task's file."""
    folder = scores.folder / "items"
    if not folder.is_dir():
        raise BadInput(f"--items: {scores.name} is a {scores.kind}; only scores have items")
    files: dict[str, Path] = {file.stem: file for file in sorted(folder.glob("*.jsonl"))}
    if task is None or task not in files:
        raise BadInput(f"--items: {scores.name} has no task {task!r}; {near(task or '', list(files))}")
    return [json.loads(line) for line in files[task].read_text(encoding="utf-8").split("\n") if line]


def grade_of(row: dict[str, Any]) -> float | None:
    """The score; of an item of lm-eval the first metric that is a number."""
    if "score" in row:
        return row["score"]
    return next((float(value) for value in row.get("scores", {}).values() if isinstance(value, int | float)), None)


def asked(row: dict[str, Any]) -> str:
    if "requests" in row:
        return str(row["requests"][0]["arguments"][0])
    return row["prompt"] if "prompt" in row else "\n".join(text for _, text in row.get("messages", ()))


def replied(row: dict[str, Any]) -> str:
    """What was written; of scored texts how likely they were."""
    if "requests" in row:
        return " | ".join(one["reply"] if "reply" in one else f"{one['logp']:.3f}" for one in row["requests"])
    return row.get("text") or ", ".join(f"{name} {text_of(value)}" for name, value in row.get("parts", {}).items())


def head(text: str) -> str:
    """The end of what was asked says most of it."""
    line = " ".join(text.split())
    return line if len(line) <= HEAD else "…" + line[1 - HEAD :]


def text_of(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def whole(row: dict[str, Any]) -> str:
    """An item with nothing left out."""
    left = {name: value for name, value in row.items() if name not in ("prompt", "messages", "target", "text", "ids", "requests", "wanted")}
    parts = [("item", json.dumps(left, ensure_ascii=False))]
    if "requests" in row:
        for one in row["requests"]:
            parts += [("asked", "\n".join(text for text in one["arguments"] if isinstance(text, str)))]
            parts += [("replied", one["reply"] if "reply" in one else f"log-probability {one['logp']:.6f}")]
        parts += [("wanted", str(row["wanted"]))]
    else:
        parts += [("asked", asked(row)), ("replied", replied(row)), ("wanted", str(row.get("target", "")))]
    return "\n\n".join(f"--- {name}\n{text}" for name, text in parts)
