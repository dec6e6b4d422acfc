"""What `run` prints when all is made: the artifacts, the scores, the report's path, and what to try next."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bloomery.cli.copies import show_copies, show_hops
from bloomery.cli.tables import show_json, show_table
from bloomery.draw.numbers import size as file_size

if TYPE_CHECKING:
    from bloomery.core.store import Artifact
    from bloomery.core.walk import Planned


def show_results(planned: list[Planned], store: Path, as_json: bool) -> None:
    made = {entry.step.name: entry.made for entry in planned if entry.made}
    if as_json:
        show_json(
            {"step": step, "artifact": one.name, "address": one.address, "kind": one.kind, "folder": str(one.folder), **one.facts}
            for step, one in made.items()
        )
        return
    rows = [
        (step, one.kind, one.name, file_size(one.card["cost"]["disk"]), f"{one.card['cost']['seconds']:,.1f}", checks(one))
        for step, one in made.items()
    ]
    show_table(("step", "kind", "artifact", "size", "seconds", "checks"), rows, right=("size", "seconds"))
    for one in made.values():
        if one.kind == "scores":
            show_scores(one)
    show_copies(made)
    for one in made.values():
        if one.kind == "chain":
            print()
            show_hops(one.facts["hops"], notes=False)
    report = next((one for one in reversed(made.values()) if one.kind == "report"), None)
    if report:
        print(f"\nreport  {report.path('report.html')}")
    me = "bloomery" if shutil.which("bloomery") else called(sys.argv[0])
    at = "" if str(store) == "store" else f" --store {store}"
    tries = suggestions(made, me, at)
    print("\nnext, try\n" + "\n".join(f"  {one}" for one in tries))


def called(program: str) -> str:
    """What a shell would be told to run `program` again; a module's file is run through Python."""
    return "python -m bloomery" if os.path.basename(program) == "__main__.py" else os.path.relpath(program)


def suggestions(made: dict[str, Artifact], me: str, at: str) -> list[str]:
    """Commands worth trying on what was made."""
    models = {step: one for step, one in made.items() if one.kind == "model"}
    if not models:
        return [f"{me} show {next(iter(made))}{at}" if made else f"{me} --help"]
    tuned = next((step for step, one in models.items() if one.card["stage"] in ("tune", "merge")), None)
    chosen = tuned or next(iter(models))
    prompt = "$'Write the signature of add.\\n\\nAdd two numbers.'" if tuned else "'def read(path):'"
    last = list(models)[-1]
    return [f"{me} {one}{at}" for one in (f"chat {chosen} --prompt {prompt}", f"serve {last}", f"check --chain {chosen}", f"show {chosen}")]


def checks(artifact: Artifact) -> str:
    """How many of its checks hold."""
    found = artifact.card["checks"]
    return f"{sum(one['ok'] for one in found)} of {len(found)} hold"


def show_scores(artifact: Artifact) -> None:
    """The score table with its intervals."""
    scores = json.loads(artifact.path("scores.json").read_text())["scores"]
    print()
    show_table(("score", "of", "value", "95% interval", "n"), [score_row(one) for one in scores], right=("value", "95% interval", "n"))


def score_row(score: dict) -> tuple[str, ...]:
    interval = "" if score.get("low") is None else f"{score['low']:.4g} to {score['high']:.4g}"
    return (
        score["metric"],
        score["subject"],
        f"{score['value']:,.4g} {score.get('unit') or ''}".strip(),
        interval,
        f"{score.get('n') or ''}",
    )
