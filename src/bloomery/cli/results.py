"""What `run` prints when all is made: the artifacts, the scores, the report's path, and what to try next."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bloomery.cli.copies import show_copies, show_hops, verdict
from bloomery.cli.tables import show_json, show_table
from bloomery.draw.numbers import size as file_size

if TYPE_CHECKING:
    from bloomery.core.store import Artifact
    from bloomery.core.walk import Planned


def show_results(planned: list[Planned], store: Path, as_json: bool) -> None:
    made = {entry.step.name: entry.made for entry in planned if entry.made}
    if as_json:
        show_json(
            {
                "step": step,
                "artifact": one.name,
                "address": one.address,
                "kind": one.kind,
                "folder": str(one.folder),
                **one.facts,
                **({"verdict": said} if (said := verdict(one, store)) else {}),
            }
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
    show_copies(made, store)
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
    """The score table with its intervals; clean twins beside them where they differ."""
    from bloomery.draw.scores import measure

    scores = json.loads(artifact.path("scores.json").read_text())["scores"]
    twins = any(one.get("contaminated") and one.get("clean") is not None for one in scores)
    columns = ("score", "of", "value", "95% interval", "n", *(("clean", "clean interval", "clean n") if twins else ()))
    print()
    show_table(
        columns, [score_row({**one, "metric": measure(one, scores)}, twins) for one in scores], right=(columns[2], columns[3], *columns[5:])
    )
    if known := artifact.facts.get("training_text"):
        print(sentence(known, twins))
    if idle := artifact.facts.get("left_out"):
        print(f"left out, since there was nothing to ask (no rows, or a context too short): {', '.join(idle)}")


def score_row(score: dict, twins: bool) -> tuple[str, ...]:
    """A score as a row of the table, with its clean twin or without."""

    def interval(of: str) -> str:
        return "" if score.get(f"{of}low") is None else f"{score[f'{of}low']:.4g} to {score[f'{of}high']:.4g}"

    value = f"{score['value']:,.4g} {score.get('unit') or ''}".strip()
    clean = "" if score.get("clean") is None else f"{score['clean']:,.4g}"
    own = (score["metric"], score["subject"], value, interval(""), f"{score.get('n') or ''}")
    return (*own, clean, interval("clean_"), f"{score.get('clean_n') or ''}") if twins else own


def sentence(known: dict, twins: bool) -> str:
    """Which training text the clean twins know of."""
    texts, missing = ", ".join(known["from"]), "; ".join(known["missing"])
    if known["known"] == "no":
        return (
            f"no clean twins: no training text is at hand{f' ({missing})' if missing else ''}, so whether it holds the items is not known"
        )
    part = f"; not all training text is known: {missing}" if missing else ""
    if twins:
        return f"clean: over the items that are not found in the training text of {texts}{part}"
    return f"no item is found in the training text of {texts}, so every score is its own clean twin{part}"
