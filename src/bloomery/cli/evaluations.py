"""Models side by side by their evaluations, as `bloomery compare` shows them without a seam."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bloomery.cli import options
from bloomery.core.errors import BadInput


def show_evaluations(names: Sequence[str], store: Path, html: Path | None, as_json: bool) -> None:
    """Scores with intervals and clean twins, differences with adjusted p-values, cost; with `html` a page of its own."""
    from bloomery.cli.tables import show_json
    from bloomery.core.store import Store
    from bloomery.draw import page
    from bloomery.draw.comparing import comparison
    from bloomery.lab.evaluations import compared

    options.writable(html)
    opened = Store(store, make=False)
    try:
        made = [opened.get(name.removeprefix("@")).name for name in names]
        if twice := next((name for name, one in zip(names, made, strict=True) if made.count(one) > 1), ""):
            raise BadInput(f"compare: {twice} is named more than once; name different evaluations")
        found = compared(names, opened)
    except BadInput:
        refuse_methods(names)
        raise
    shown = comparison(found)
    if html:
        html.write_text(page.render(page.COMPARISON, title=listed(shown["heads"]), **shown), encoding="utf-8")
    if as_json:
        show_json({"kind": kind, **row} for kind, key in KINDS.items() for row in found[key])
    else:
        show(shown)
        if html:
            print(f"\n{html}")


def listed(names: Sequence[str]) -> str:
    """Names in a sentence."""
    return f"{', '.join(names[:-1])} and {names[-1]}"


def refuse_methods(names: Sequence[str]) -> None:
    """BadInput for what is a method, whose seam was forgotten."""
    from bloomery.core import catalog

    for entry in catalog.all_methods():
        if entry.name in names:
            raise BadInput(f"compare: {entry.name} is a method; say --seam {entry.seam}, or name evaluations")


KINDS = {"model": "models", "score": "scores", "difference": "differences", "curve": "curves"}  # of a line: what it is one of


def show(shown: Mapping[str, Any]) -> None:
    """The tables of the page, for a terminal."""
    from bloomery.cli.tables import show_table

    heads = shown["heads"]
    rows = [(row["task"] or row["metric"], named(row), *(cell_of(cell) for cell in row["cells"])) for row in shown["rows"]]
    show_table(("task", "measure", *heads), rows, right=heads)
    for name, text in shown["texts"]:
        print(f"{name}: training text {text}")
    if shown["table"]:
        print()
        columns = ("model", "minus", "measure", "difference", "95% interval", "clean items", "n", "p", "adjusted")
        keys = ("model", "minus", "metric", "value", "ends", "clean", "n", "p", "adjusted")
        table = [tuple(row[key].strip("()") if key == "ends" else row[key] for key in keys) for row in shown["table"]]
        show_table(columns, table, right=columns[3:])
        print(shown["told"])
    print()
    show_table(("cost", *heads), [(row["name"], *row["cells"]) for row in shown["costs"]], right=heads)


def named(row: Mapping[str, Any]) -> str:
    """A measure with what it is of and which way is better."""
    of = f" of {row['subject']}" if row["subject"] else ""
    return f"{row['metric']}{of}" + (f", {row['better']} is better" if row["better"] else "")


def cell_of(cell: Mapping[str, str]) -> str:
    """A value with its interval and its clean twin."""
    return cell["value"] + (f" ({cell['ends']})" if cell["ends"] else "") + (f"\nclean {cell['clean']}" if cell["clean"] else "")
